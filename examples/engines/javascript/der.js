// As much of DER as Node's crypto leaves to its users: certificate requests, and two fields of a certificate.

export const OID = {
  commonName: Buffer.from('0603550403', 'hex'),
  organizationalUnit: Buffer.from('060355040b', 'hex'),
  ecdsaWithSha256: Buffer.from('06082a8648ce3d040302', 'hex'),
  // 1.2.3.4.5.6.7.8.1, in which Fabric CA writes attributes.
  attributes: Buffer.from('06082a03040506070801', 'hex'),
};
export const [INTEGER, BIT_STRING, UTF8, SEQUENCE, SET] = [0x02, 0x03, 0x0c, 0x30, 0x31];
const OCTET_STRING = 0x04;
const EXTENSIONS = 0xa3;

export function encode(tag, ...parts) {
  const content = Buffer.concat(parts);
  const length = [];
  for (let left = content.length; left > 0; left >>>= 8) length.unshift(left & 0xff);
  const head = content.length < 128 ? [tag, content.length] : [tag, 0x80 | length.length, ...length];
  return Buffer.concat([Buffer.from(head), content]);
}

// The values that lie in `raw` one after the other: tag, content, and the whole with its head.
export function values(raw) {
  const found = [];
  for (let at = 0; at < raw.length; ) {
    let [length, begins] = [raw[at + 1], at + 2];
    if (length & 0x80) {
      const bytes = length & 0x7f;
      [length, begins] = [raw.readUIntBE(begins, bytes), begins + bytes];
    }
    const ends = begins + length;
    if (ends > raw.length) throw new RangeError('bytes that cannot be read');
    found.push({ tag: raw[at], content: raw.subarray(begins, ends), whole: raw.subarray(at, ends) });
    at = ends;
  }
  return found;
}

// The fields of a TBSCertificate; the first, [0], is the version.
function fields(certificate) {
  return values(values(values(certificate.raw)[0].content)[0].content);
}

export function unitsOf(certificate) {
  const names = values(fields(certificate)[5].content).flatMap((set) => values(set.content));
  return names
    .map((name) => values(name.content))
    .filter(([type]) => type.whole.equals(OID.organizationalUnit))
    .map(([, value]) => value.content.toString());
}

// The attribute cbmdhi.role that Fabric CA writes into a certificate.
export function roleOf(certificate) {
  const extensions = fields(certificate).find((field) => field.tag === EXTENSIONS);
  for (const extension of extensions ? values(values(extensions.content)[0].content) : []) {
    const [type, ...rest] = values(extension.content);
    if (type.whole.equals(OID.attributes)) {
      const text = rest.find((value) => value.tag === OCTET_STRING).content.toString();
      return JSON.parse(text).attrs['cbmdhi.role'];
    }
  }
  return '';
}
