package engine;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.StringWriter;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyPairGenerator;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.SecureRandom;
import java.security.Signature;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.interfaces.ECPublicKey;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.X509EncodedKeySpec;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import org.bouncycastle.asn1.ASN1Integer;
import org.bouncycastle.asn1.ASN1Sequence;
import org.bouncycastle.asn1.DERSequence;
import org.bouncycastle.asn1.pkcs.PrivateKeyInfo;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.crypto.params.MLKEMParameters;
import org.bouncycastle.crypto.params.MLKEMPrivateKeyParameters;
import org.bouncycastle.crypto.params.X25519PrivateKeyParameters;
import org.bouncycastle.openssl.PEMParser;
import org.bouncycastle.openssl.jcajce.JcaPEMKeyConverter;
import org.bouncycastle.openssl.jcajce.JcaPEMWriter;
import org.bouncycastle.openssl.jcajce.JcaPKCS8Generator;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.pkcs.jcajce.JcaPKCS10CertificationRequestBuilder;

/** The signing key, and the key to which data keys are sealed. They never leave the engine's folder. */
final class Keys {
  static final String COMMAND = "cbmdhi/command/v1";
  static final String DELEGATION = "cbmdhi/delegation/v1";
  static final String LOGIN = "cbmdhi/login/v1";
  private static final BigInteger ORDER =
      new BigInteger("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16);
  private static final BigInteger HALF = ORDER.shiftRight(1);
  private static final SecureRandom RANDOM = new SecureRandom();

  /** DER SubjectPublicKeyInfo. */
  final byte[] publicKey;
  final String address;
  /** 1,216 bytes: ML-KEM-768's, then X25519's. */
  final byte[] hpkePublic;
  private final PrivateKey privateKey;

  Keys(Path state) throws Exception {
    var converter = new JcaPEMKeyConverter();
    try (var parser = new PEMParser(Files.newBufferedReader(state.resolve("key.pem")))) {
      privateKey = converter.getPrivateKey((PrivateKeyInfo) parser.readObject());
    }
    try (var parser = new PEMParser(Files.newBufferedReader(state.resolve("public.pem")))) {
      publicKey = ((org.bouncycastle.asn1.x509.SubjectPublicKeyInfo) parser.readObject()).getEncoded();
    }
    address = addressOf(publicKey);
    byte[] sealing = Files.readAllBytes(state.resolve("hpke.key"));
    byte[] mlkem = new MLKEMPrivateKeyParameters(MLKEMParameters.ml_kem_768, Arrays.copyOf(sealing, 64)).getPublicKey();
    byte[] x25519 = new X25519PrivateKeyParameters(sealing, 64).generatePublicKey().getEncoded();
    hpkePublic = concat(mlkem, x25519);
  }

  /** Writes a new engine's state: its keys, the consortium that it pins, its member. */
  static void make(Path state, Path consortium, String member) throws Exception {
    Consortium.read(consortium).member(member);
    Files.createDirectories(state, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
    if (Files.exists(state.resolve("key.pem"))) {
      throw new Refused("there are keys already: a lost key cannot be had again");
    }
    var generator = KeyPairGenerator.getInstance("EC");
    generator.initialize(new ECGenParameterSpec("secp256r1"), RANDOM);
    var pair = generator.generateKeyPair();
    write(state.resolve("public.pem"), pem(pair.getPublic()));
    write(state.resolve("key.pem"), pem(new JcaPKCS8Generator(pair.getPrivate(), null)));
    // ML-KEM's seed (64 bytes) and X25519 (32).
    write(state.resolve("hpke.key"), random(96));
    write(state.resolve("consortium.json"), Files.readAllBytes(consortium));
    write(state.resolve("member"), member.getBytes(StandardCharsets.UTF_8));
    System.out.println("address " + new Keys(state).address);
  }

  private static byte[] pem(Object what) throws IOException {
    var text = new StringWriter();
    try (var writer = new JcaPEMWriter(text)) {
      writer.writeObject(what);
    }
    return text.toString().getBytes(StandardCharsets.US_ASCII);
  }

  /** Writes a file that nobody else may read, whole or not at all. */
  static void write(Path file, byte[] content) throws IOException {
    Files.createDirectories(file.getParent());
    Path made = file.resolveSibling(file.getFileName() + ".new");
    Files.deleteIfExists(made);
    Files.createFile(made, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
    Files.write(made, content);
    Files.move(made, file, StandardCopyOption.ATOMIC_MOVE);
  }

  // [start:sign]
  /** ECDSA over SHA-256 of the label, a zero byte and the parts: DER, with s in the lower half. */
  byte[] sign(String label, byte[]... parts) throws Exception {
    var signer = Signature.getInstance("SHA256withECDSAinP1363Format");
    signer.initSign(privateKey);
    signer.update(message(label, parts));
    byte[] raw = signer.sign();
    var r = new BigInteger(1, Arrays.copyOf(raw, 32));
    var s = new BigInteger(1, Arrays.copyOfRange(raw, 32, 64));
    var low = s.compareTo(HALF) > 0 ? ORDER.subtract(s) : s;
    return new DERSequence(new ASN1Integer[] {new ASN1Integer(r), new ASN1Integer(low)}).getEncoded();
  }
  // [end:sign]

  /** PKCS#10 in PEM whose common name is the address: it tells nothing about anybody. */
  String certificateRequest() throws Exception {
    PublicKey own = KeyFactory.getInstance("EC").generatePublic(new X509EncodedKeySpec(publicKey));
    var request = new JcaPKCS10CertificationRequestBuilder(new X500Name("CN=" + address), own)
        .build(new JcaContentSignerBuilder("SHA256withECDSA").build(privateKey));
    return new String(pem(request), StandardCharsets.US_ASCII);
  }

  /** cb1 and the first 20 bytes of SHA-256 of the DER SubjectPublicKeyInfo. */
  static String addressOf(byte[] publicKey) {
    return "cb1" + base32(Arrays.copyOf(sha256(publicKey), 20));
  }

  /** Lower case, without padding. */
  static String base32(byte[] raw) {
    var text = new StringBuilder();
    for (int bit = 0; bit < raw.length * 8; bit += 5) {
      int five = 0;
      for (int place = bit; place < bit + 5; place++) {
        int one = place < raw.length * 8 ? raw[place / 8] >> (7 - place % 8) & 1 : 0;
        five = five << 1 | one;
      }
      text.append("abcdefghijklmnopqrstuvwxyz234567".charAt(five));
    }
    return text.toString();
  }

  /** Whether it is what `sign` makes; a high s is bad, though the mathematics would take it. */
  static boolean isSigned(byte[] publicKey, byte[] signature, String label, byte[]... parts) {
    return isSignature(publicKey, signature, message(label, parts));
  }

  static boolean isSignature(byte[] publicKey, byte[] signature, byte[] message) {
    try {
      var key = (ECPublicKey) KeyFactory.getInstance("EC").generatePublic(new X509EncodedKeySpec(publicKey));
      var s = ASN1Integer.getInstance(ASN1Sequence.getInstance(signature).getObjectAt(1)).getValue();
      var verifier = Signature.getInstance("SHA256withECDSA");
      verifier.initVerify(key);
      verifier.update(message);
      return key.getParams().getOrder().equals(ORDER) && s.compareTo(HALF) <= 0 && verifier.verify(signature);
    } catch (GeneralSecurityException | RuntimeException notOne) {
      return false; // no key of P-256, or no DER
    }
  }

  private static byte[] message(String label, byte[]... parts) {
    return concat((label + "\0").getBytes(StandardCharsets.UTF_8), concat(parts));
  }

  static byte[] concat(byte[]... parts) {
    var all = ByteBuffer.allocate(Arrays.stream(parts).mapToInt(part -> part.length).sum());
    for (byte[] part : parts) {
      all.put(part);
    }
    return all.array();
  }

  static byte[] sha256(byte[]... parts) {
    try {
      return MessageDigest.getInstance("SHA-256").digest(concat(parts));
    } catch (GeneralSecurityException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  static byte[] random(int bytes) {
    byte[] raw = new byte[bytes];
    RANDOM.nextBytes(raw);
    return raw;
  }

  /** A new UUIDv7 (RFC 9562): milliseconds first, so that ids ascend. */
  static String uuid7() {
    var chance = ByteBuffer.wrap(random(16));
    long high = System.currentTimeMillis() << 16 | 0x7000 | chance.getLong() & 0x0fff;
    long low = chance.getLong() & 0x3fffffffffffffffL | 0x8000000000000000L;
    return new UUID(high, low).toString();
  }

  static List<X509Certificate> certificates(String pem) throws GeneralSecurityException {
    var raw = new ByteArrayInputStream(pem.getBytes(StandardCharsets.US_ASCII));
    return CertificateFactory.getInstance("X.509").generateCertificates(raw).stream()
        .map(X509Certificate.class::cast).toList();
  }
}
