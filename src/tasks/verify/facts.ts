import type { Claims, Verified } from '../../attest/index.ts';
import { hex, sha256 } from '../../core/bytes.ts';
import type { Measurement } from '../../core/measurement.ts';
import { type Expected, registersFor } from './expect.ts';

/** A register of what was measured; `expected` and `same` only where somebody said what is right. */
export interface Register {
  name: string;
  expected?: string;
  actual: string;
  same?: boolean;
}

/** One certificate of the chain above evidence, as its own text has it. */
export interface ChainLink {
  /** Lines of an RFC 2253-like name become one line. */
  subject: string;
  issuer: string;
  /** Hex. */
  serial: string;
  /** ISO 8601. */
  from: string;
  until: string;
  fingerprint: string;
}

/** What evidence says, in JSON: worth nothing unless its file's verdict is a pass. Bytes are hex. */
export interface EvidenceFacts {
  tee: Claims['tee'];
  /** SHA-256 of the vendor's bytes. */
  sha256: string;
  size: number;
  debug: boolean;
  time?: string;
  module?: string;
  registers: Register[];
  chain: ChainLink[];
  tcb?: Claims['tcb'];
  platform?: string;
  product?: string;
  vmpl?: number;
  nonce?: string;
  userData?: string;
  publicKey?: string;
  reportData?: string;
  facts?: Record<string, string>;
}

export function evidenceFacts(
  { claims, chain }: Pick<Verified, 'claims' | 'chain'>,
  bytes: Uint8Array,
  expected: Expected,
): EvidenceFacts {
  const { tee, debug, timestamp, moduleId, tcb, platform, product, vmpl, facts } = claims;
  const given = (entries: Record<string, Uint8Array | undefined>) =>
    Object.fromEntries(Object.entries(entries).flatMap(([name, value]) => (value ? [[name, hex(value)]] : [])));
  return {
    tee,
    sha256: hex(sha256(bytes)),
    size: bytes.length,
    debug,
    ...(timestamp === undefined ? {} : { time: timestamp.toISOString() }),
    ...(moduleId === undefined ? {} : { module: moduleId }),
    registers: compareRegisters(expected, claims),
    chain: chain.map((certificate) => ({
      subject: oneLine(certificate.x509.subject),
      issuer: oneLine(certificate.x509.issuer),
      serial: certificate.serial,
      from: certificate.notBefore.toISOString(),
      until: certificate.notAfter.toISOString(),
      fingerprint: certificate.fingerprint,
    })),
    ...(tcb === undefined ? {} : { tcb }),
    ...(platform === undefined ? {} : { platform }),
    ...(product === undefined ? {} : { product }),
    ...(vmpl === undefined ? {} : { vmpl }),
    ...given({ nonce: claims.nonce, userData: claims.userData, publicKey: claims.publicKey }),
    ...given({ reportData: claims.reportData }),
    ...(facts === undefined ? {} : { facts }),
  };
}

const oneLine = (name: string): string => name.replaceAll('\n', ', ');

/** Every register of the evidence, those first that were to be compared; what is missing is "absent". */
function compareRegisters(expected: Expected, { measurement, pcrs }: Claims): Register[] {
  const found = registersOf(measurement, pcrs);
  const own = registersFor(expected, teeOf(measurement));
  // A manifest without an image of this TEE: what it expects instead is all absent.
  const other = own === undefined;
  const wanted = own ?? (expected.from === 'manifest' ? expected.images[0]?.registers : undefined) ?? {};
  const compared = Object.entries(wanted).map(([name, value]) => {
    const actual = (other ? undefined : found[name]) ?? 'absent';
    return { name, expected: value, actual, same: actual === value };
  });
  const rest = Object.entries(found).filter(([name]) => other || !(name in wanted));
  return [...compared, ...rest.map(([name, actual]) => ({ name, actual }))];
}

const teeOf = (measurement: Measurement) => (measurement.tee === 'simulated' ? measurement.of : measurement).tee;

function registersOf(measurement: Measurement, pcrs: Claims['pcrs']): Record<string, string> {
  const { tee: _, ...registers } = measurement.tee === 'simulated' ? measurement.of : measurement;
  const named = Object.fromEntries(Object.entries(registers).map(([name, value]) => [name, String(value)]));
  // Zero registers above PCR2 were never extended.
  const extended = [...(pcrs ?? [])].filter(([, value]) => !/^0*$/.test(value));
  return { ...named, ...Object.fromEntries(extended.map(([index, value]) => [`pcr${index}`, value])) };
}
