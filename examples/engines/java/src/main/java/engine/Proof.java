package engine;

import cbmdhi.command.v1.AuditEntry;
import cbmdhi.command.v1.Command;
import cbmdhi.command.v1.Delegation;
import cbmdhi.command.v1.Query;
import cbmdhi.command.v1.QueryResult;
import cbmdhi.command.v1.RecordVersion;
import cbmdhi.command.v1.SignedCommand;
import cbmdhi.ledger.v1.Evidence;
import com.google.gson.JsonObject;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.time.Instant;
import java.util.Arrays;
import java.util.Date;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.bouncycastle.asn1.ASN1OctetString;
import org.bouncycastle.asn1.x500.style.BCStyle;
import org.bouncycastle.cert.jcajce.JcaX509CertificateHolder;
import org.hyperledger.fabric.protos.common.ChannelHeader;
import org.hyperledger.fabric.protos.common.HeaderType;
import org.hyperledger.fabric.protos.common.Payload;
import org.hyperledger.fabric.protos.common.SignatureHeader;
import org.hyperledger.fabric.protos.msp.SerializedIdentity;
import org.hyperledger.fabric.protos.peer.ChaincodeAction;
import org.hyperledger.fabric.protos.peer.ChaincodeActionPayload;
import org.hyperledger.fabric.protos.peer.ChaincodeEndorsedAction;
import org.hyperledger.fabric.protos.peer.ChaincodeInvocationSpec;
import org.hyperledger.fabric.protos.peer.ChaincodeProposalPayload;
import org.hyperledger.fabric.protos.peer.ProposalResponsePayload;
import org.hyperledger.fabric.protos.peer.Transaction;

/** What the members' peers signed, checked as docs/verification.md says: no gateway is believed. */
final class Proof {
  /** What is pinned. */
  record Trust(String channel, String chaincode, byte[] genesis, Map<String, List<X509Certificate>> roots) {
    static Trust of(Consortium consortium) throws GeneralSecurityException {
      var roots = new HashMap<String, List<X509Certificate>>();
      for (var member : consortium.members()) {
        roots.put(member.mspId(), Keys.certificates(member.caPem()));
      }
      byte[] genesis = HexFormat.of().parseHex(consortium.genesisSha256());
      return new Trust(consortium.channel(), consortium.chaincode(), genesis, roots);
    }

    /** Whether one of the member's roots issued it directly. */
    boolean issued(X509Certificate certificate, String mspId) {
      for (X509Certificate root : roots.getOrDefault(mspId, List.of())) {
        try {
          certificate.verify(root.getPublicKey());
          if (certificate.getIssuerX500Principal().equals(root.getSubjectX500Principal())) {
            return true;
          }
        } catch (GeneralSecurityException another) {
          // Not this one.
        }
      }
      return false;
    }
  }

  record Decided(AuditEntry entry, SignedCommand signed, String author) {}

  record Version(RecordVersion version, String author) {}

  private record Meant(SignedCommand signed, String author) {}

  /** Keys of addresses, once certified. */
  final Map<String, byte[]> keys = new HashMap<>();
  private final Trust trust;
  private final Evidence evidence;
  private final Map<String, ByteString> values = new HashMap<>();

  static void check(String name, boolean holds) throws NotProven {
    if (!holds) {
      throw new NotProven(name);
    }
  }

  Proof(Trust trust, Evidence evidence) throws NotProven {
    this.trust = trust;
    this.evidence = evidence;
    try {
      open();
    } catch (InvalidProtocolBufferException error) {
      throw new NotProven("bytes that cannot be read");
    }
  }

  // [start:proof]
  /** Checks the endorsements: docs/verification.md, "What the peers hold". */
  private void open() throws NotProven, InvalidProtocolBufferException {
    var payload = Payload.parseFrom(evidence.getEndorsedState());
    var headers = payload.getHeader();
    var channel = ChannelHeader.parseFrom(headers.getChannelHeader());
    var header = SignatureHeader.parseFrom(headers.getSignatureHeader());
    var actions = Transaction.parseFrom(payload.getData()).getActionsList();
    check("type", channel.getType() == HeaderType.ENDORSER_TRANSACTION_VALUE);
    check("one-action", actions.size() == 1);
    var action = ChaincodeActionPayload.parseFrom(actions.get(0).getPayload());
    var response = ProposalResponsePayload.parseFrom(action.getAction().getProposalResponsePayload());
    var answered = ChaincodeAction.parseFrom(response.getExtension());
    var proposal = ChaincodeProposalPayload.parseFrom(action.getChaincodeProposalPayload());
    var invocation = ChaincodeInvocationSpec.parseFrom(proposal.getInput());
    var arguments = invocation.getChaincodeSpec().getInput().getArgsList();
    byte[] id = Keys.sha256(header.getNonce().toByteArray(), header.getCreator().toByteArray());
    byte[] asked = Keys.sha256(headers.getChannelHeader().toByteArray(), headers.getSignatureHeader().toByteArray(),
        action.getChaincodeProposalPayload().toByteArray());
    check("channel", channel.getChannelId().equals(trust.channel()));
    check("chaincode", answered.getChaincodeId().getName().equals(trust.chaincode()));
    check("tx-id", channel.getTxId().equals(HexFormat.of().formatHex(id)));
    check("status", answered.getResponse().getStatus() == 200);
    check("two-arguments", arguments.size() == 2);
    check("query", arguments.get(0).toStringUtf8().equals("query"));
    check("proposal-hash", Arrays.equals(asked, response.getProposalHash().toByteArray()));
    check("majority", endorsers(channel, action.getAction()).size() >= trust.roots().size() / 2 + 1);
    var keys = Query.parseFrom(arguments.get(1)).getGetKeys().getKeysList();
    var found = QueryResult.parseFrom(answered.getResponse().getPayload()).getValuesList();
    check("as-many-values", keys.size() == found.size());
    for (int place = 0; place < keys.size(); place++) {
      values.put(keys.get(place), found.get(place));
    }
  }

  /** The members of which a peer signed. What does not count is passed over. */
  private Set<String> endorsers(ChannelHeader channel, ChaincodeEndorsedAction endorsed) {
    var time = channel.getTimestamp();
    var at = Date.from(Instant.ofEpochSecond(time.getSeconds(), time.getNanos()));
    var members = new HashSet<String>();
    for (var endorsement : endorsed.getEndorsementsList()) {
      try {
        var endorser = SerializedIdentity.parseFrom(endorsement.getEndorser());
        var certificate = Keys.certificates(endorser.getIdBytes().toStringUtf8()).get(0);
        byte[] message = endorsed.getProposalResponsePayload().concat(endorsement.getEndorser()).toByteArray();
        certificate.checkValidity(at);
        if (trust.issued(certificate, endorser.getMspid())
            && unitsOf(certificate).contains("peer")
            && Keys.isSignature(certificate.getPublicKey().getEncoded(), endorsement.getSignature().toByteArray(), message)) {
          members.add(endorser.getMspid());
        }
      } catch (InvalidProtocolBufferException | GeneralSecurityException | IndexOutOfBoundsException notOne) {
        // No identity, no certificate, or not of that time.
      }
    }
    return members;
  }
  // [end:proof]

  /** The step "A command and its verdict": the entry, the command, its author. */
  Decided decided(String commandId, String signer) throws NotProven, InvalidProtocolBufferException {
    var value = values.getOrDefault("z/" + commandId + "/aud/" + signer, ByteString.EMPTY);
    check("decided", !value.isEmpty());
    var entry = AuditEntry.parseFrom(value);
    var meant = meant(commandId, entry.getSigner());
    byte[] digest = Keys.sha256(meant.signed().getCommand().toByteArray());
    check("command-sha256", Arrays.equals(digest, entry.getCommandSha256().toByteArray()));
    return new Decided(entry, meant.signed(), meant.author());
  }

  /** The step "A version of a record", and its author. */
  Version version(String recordId, int number, String patient) throws NotProven, InvalidProtocolBufferException {
    var value = values.getOrDefault(String.format("z/%s/rec/%08x", recordId, number), ByteString.EMPTY);
    check("present", !value.isEmpty());
    var version = RecordVersion.parseFrom(value);
    check("asked-for", version.getRecordId().equals(recordId) && version.getVersion() == number);
    check("patient", version.getPatient().equals(patient));
    var meant = meant(version.getCommandId(), version.getSignedBy());
    var body = Commands.body(meant.signed());
    check("put-record", body.hasPutRecord());
    check("author", meant.author().equals(version.getAuthor()));
    var put = body.getPutRecord();
    check("as-signed", put.getRecordId().equals(recordId) && put.getVersion() == number
        && put.getPatient().equals(version.getPatient()) && put.getCategory().equals(version.getCategory())
        && put.getContentCommitment().equals(version.getContentCommitment()));
    return new Version(version, meant.author());
  }

  /** The step "Who meant it": the command of that id and signer, and its author. */
  private Meant meant(String commandId, String signer) throws NotProven, InvalidProtocolBufferException {
    for (SignedCommand signed : evidence.getCommandsList()) {
      Command command = Commands.header(signed);
      if (!command.getCommandId().equals(commandId) || !signed.getSigner().equals(signer)) {
        continue;
      }
      byte[] key = certified(signer);
      check("command-signature", isSigned(key, signed));
      check("command-channel", command.getChannel().equals(trust.channel()));
      check("command-genesis", Arrays.equals(command.getGenesisSha256().toByteArray(), trust.genesis()));
      if (signed.hasDelegation()) {
        return new Meant(signed, delegator(signed, command));
      }
      check("no-delegation", command.getDelegationSha256().isEmpty());
      return new Meant(signed, signer);
    }
    throw new NotProven("nobody's command");
  }

  /** For whom a device signed. */
  private String delegator(SignedCommand signed, Command command) throws NotProven, InvalidProtocolBufferException {
    byte[] raw = signed.getDelegation().getDelegation().toByteArray();
    var delegation = Delegation.parseFrom(raw);
    byte[] key = certified(delegation.getDelegator());
    byte[] signature = signed.getDelegation().getSignature().toByteArray();
    check("delegation-sha256", Arrays.equals(Keys.sha256(raw), command.getDelegationSha256().toByteArray()));
    check("delegate", delegation.getDelegate().equals(signed.getSigner()));
    check("delegation-channel", delegation.getChannel().equals(command.getChannel()));
    check("delegation-genesis", delegation.getGenesisSha256().equals(command.getGenesisSha256()));
    check("delegation-signature", Keys.isSigned(key, signature, Keys.DELEGATION, raw));
    return delegation.getDelegator();
  }

  /** The step "Whose key it is". */
  private byte[] certified(String address) throws NotProven, InvalidProtocolBufferException {
    if (keys.containsKey(address)) {
      return keys.get(address);
    }
    for (SignedCommand signed : evidence.getRegistrationsList()) {
      if (!signed.getSigner().equals(address)) {
        continue;
      }
      var asked = Commands.body(signed).getRegisterIdentity();
      byte[] key = asked.getSigningPublicKey().toByteArray();
      X509Certificate certificate = certificate(asked.getEnrolmentCertificate());
      check("registered-signer", asked.getAddress().equals(address));
      check("registered-address", Keys.addressOf(key).equals(address));
      check("registration-signature", isSigned(key, signed));
      check("enrolment-root", trust.issued(certificate, asked.getHomeMsp()));
      check("enrolment-key", Arrays.equals(certificate.getPublicKey().getEncoded(), key));
      check("enrolment-role", ("ROLE_" + roleOf(certificate).toUpperCase()).equals(asked.getRole().name()));
      keys.put(address, key);
      return key;
    }
    throw new NotProven("nobody's key");
  }

  private static boolean isSigned(byte[] key, SignedCommand signed) {
    return Keys.isSigned(key, signed.getSignature().toByteArray(), Keys.COMMAND, signed.getCommand().toByteArray());
  }

  private static X509Certificate certificate(ByteString der) throws NotProven {
    try {
      var raw = new ByteArrayInputStream(der.toByteArray());
      return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(raw);
    } catch (GeneralSecurityException error) {
      throw new NotProven("bytes that cannot be read");
    }
  }

  private static List<String> unitsOf(X509Certificate certificate) throws GeneralSecurityException {
    var subject = new JcaX509CertificateHolder(certificate).getSubject();
    return Arrays.stream(subject.getRDNs())
        .flatMap(name -> Arrays.stream(name.getTypesAndValues()))
        .filter(one -> one.getType().equals(BCStyle.OU))
        .map(one -> one.getValue().toString())
        .toList();
  }

  /** The attribute cbmdhi.role that Fabric CA writes into a certificate. */
  private static String roleOf(X509Certificate certificate) {
    byte[] value = certificate.getExtensionValue("1.2.3.4.5.6.7.8.1");
    if (value == null) {
      return "";
    }
    var text = new String(ASN1OctetString.getInstance(value).getOctets(), StandardCharsets.UTF_8);
    var role = Consortium.JSON.fromJson(text, JsonObject.class).getAsJsonObject("attrs").get("cbmdhi.role");
    return role == null ? "" : role.getAsString();
  }
}
