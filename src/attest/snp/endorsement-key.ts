import { usageError } from '../../core/errors.ts';
import type { Certificate } from '../certificate.ts';
import type { ProductLine } from '../roots/amd.ts';
import type { SigningKey } from './report.ts';
import { type Tcb, type TcbPart, tcbParts } from './tcb.ts';

// VCEK and VLEK certificates: AMD's "VCEK Certificate and KDS Interface Specification" (document 57230), chapter 3.

const ARC = '1.3.6.1.4.1.3704.1';
const OID = { structVersion: `${ARC}.1`, product: `${ARC}.2`, hwid: `${ARC}.4`, csp: `${ARC}.5` };
const TCB_OID: Record<TcbPart, string> = {
  bootloader: `${ARC}.3.1`,
  tee: `${ARC}.3.2`,
  snp: `${ARC}.3.3`,
  microcode: `${ARC}.3.8`,
  fmc: `${ARC}.3.9`,
};
const INTEGER = 2;
const IA5_STRING = 22;
/** Steppings go by names such as "Milan-B0"; Bergamo and Siena are of Genoa's line and have its root. */
const LINES: Record<string, ProductLine> = {
  Milan: 'Milan',
  Genoa: 'Genoa',
  Bergamo: 'Genoa',
  Siena: 'Genoa',
  Turin: 'Turin',
};

/** What AMD says of the key that signs reports. */
export interface EndorsementKey {
  certificate: Certificate;
  kind: Exclude<SigningKey, 'none'>;
  /** As the certificate has it, such as "Milan-B0". */
  product: string;
  line: ProductLine;
  tcb: Tcb;
  /** VCEK: the chip, 64 bytes (8 on Turin). */
  hwid: Buffer | undefined;
  /** VLEK: the cloud provider. */
  provider: string | undefined;
}

/** True for certificates that carry AMD's extensions at all. */
export const isEndorsementKey = ({ extensions, ca }: Certificate): boolean => !ca && extensions.has(OID.structVersion);

/** Reads AMD's extensions. Throws `ERR_CERTIFICATE_MALFORMED` (exit 2). Verifies nothing. */
export function readEndorsementKey(certificate: Certificate): EndorsementKey {
  const product = text(certificate, OID.product);
  const line = LINES[product.split('-')[0] ?? ''];
  if (line === undefined) throw malformed(`unknown product ${JSON.stringify(product)}`);
  const hwid = certificate.extensions.get(OID.hwid)?.value;
  const csp = certificate.extensions.has(OID.csp);
  if ((hwid === undefined) === !csp) throw malformed('expected a chip id (VCEK) or a provider (VLEK)');
  const length = line === 'Turin' ? 8 : 64;
  if (hwid !== undefined && hwid.length !== length) throw malformed(`expected a chip id of ${length} bytes`);
  return {
    certificate,
    kind: csp ? 'VLEK' : 'VCEK',
    product,
    line,
    tcb: Object.fromEntries(tcbParts(line).map((part) => [part, level(certificate, TCB_OID[part])])),
    // AMD puts the bytes there as they are, without the OCTET STRING around them.
    hwid: hwid === undefined ? undefined : Buffer.from(hwid),
    provider: csp ? text(certificate, OID.csp) : undefined,
  };
}

function level(certificate: Certificate, oid: string): number {
  const value = content(certificate, oid, INTEGER);
  const [first = 0x80, second = 0] = value;
  const long = value.length === 2 && first === 0 && second >= 0x80;
  if (!long && !(value.length === 1 && first < 0x80)) throw malformed(`${oid} is not 0 to 255`);
  return long ? second : first;
}

function text(certificate: Certificate, oid: string): string {
  const value = content(certificate, oid, IA5_STRING).toString('latin1');
  if (!/^[\x21-\x7e]{1,64}$/.test(value)) throw malformed(`${oid} is not a name`);
  return value;
}

/** The content of an extension that is one short DER item. */
function content({ extensions }: Certificate, oid: string, tag: number): Buffer {
  const value = extensions.get(oid)?.value;
  if (value === undefined) throw malformed(`extension ${oid} is missing`);
  if (value[0] !== tag || value[1] !== value.length - 2 || value.length > 129) {
    throw malformed(`extension ${oid} is malformed`);
  }
  return Buffer.from(value.subarray(2));
}

const malformed = (why: string) => usageError('ERR_CERTIFICATE_MALFORMED', `endorsement key: ${why}`);
