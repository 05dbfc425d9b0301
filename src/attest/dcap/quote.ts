import { usageError } from '../../core/errors.ts';
import {
  readSgxReport,
  readTdReport,
  SGX_REPORT_LENGTH,
  type SgxReport,
  TD_REPORT_10_LENGTH,
  TD_REPORT_15_LENGTH,
  type TdReport,
} from './report.ts';

/** Quotes with a certificate chain have 4 to 5 KB; quoting libraries pad some to 16 KB. */
const MOST_BYTES = 1 << 16;
const HEADER_LENGTH = 48;
const INTEL_QE = '939a7233f79c4ca9940a0db3957f0607';
const TEE = { sgx: 0x00, tdx: 0x81 } as const;
const ECDSA_P256 = 2;
/** "Certification data type": what says which PCK certificate goes with the quote. */
export const CERTIFICATION = { pckLeaf: 4, pckChain: 5, qeReport: 6, most: 7 } as const;

/** The enclave's or the domain's report. */
export type QuoteBody = { tee: 'sgx'; report: SgxReport } | { tee: 'tdx'; report: TdReport };

/** A DCAP quote, parsed but not verified. All byte strings are views of one copy of the quote. */
export interface Quote {
  version: 3 | 4 | 5;
  body: QuoteBody;
  /** What the attestation key signs: header and body. */
  signed: Buffer;
  /** r || s, big-endian, 64 bytes. */
  signature: Buffer;
  /** x || y of the P-256 attestation key, 64 bytes. */
  attestationKey: Buffer;
  /** The quoting enclave's report, and the PCK key's signature over it. */
  qeReport: SgxReport;
  qeReportSignature: Buffer;
  qeAuthData: Buffer;
  certification: { type: number; data: Buffer };
  /** Bytes after the quote: TDX quoting libraries leave some. Not signed, never read. */
  trailing: number;
}

/**
 * Parses an SGX or TDX quote with an ECDSA P-256 attestation key. Layouts: "Intel SGX ECDSA Quote Library Reference for
 * DCAP API", appendix A (version 3); "Intel TDX DCAP Quoting Library API", appendix A (versions 4 and 5). Every length
 * inside has to come out exactly. Throws `ERR_EVIDENCE_MALFORMED` (exit 2). Verifies nothing.
 */
export function parseQuote(bytes: Uint8Array): Quote {
  if (bytes.length > MOST_BYTES) throw malformed(`expected at most ${MOST_BYTES} bytes, found ${bytes.length}`);
  const cursor = new Cursor(Buffer.from(bytes));
  const header = cursor.take(HEADER_LENGTH, 'the header');
  const version = header.readUInt16LE(0);
  if (version !== 3 && version !== 4 && version !== 5) throw malformed(`expected version 3, 4 or 5, found ${version}`);
  const keyType = header.readUInt16LE(2);
  if (keyType !== ECDSA_P256) throw malformed(`expected attestation key type 2 (ECDSA P-256), found ${keyType}`);
  if (header.toString('hex', 12, 28) !== INTEL_QE) throw malformed('the quoting enclave is not of Intel (vendor id)');
  const body = readBody(cursor, version, header.readUInt32LE(4));
  const signed = cursor.since(0);
  const auth = new Cursor(cursor.counted('signature data'));
  const trailing = cursor.left;
  const signature = auth.take(64, 'the signature');
  const attestationKey = auth.take(64, 'the attestation key');
  // Versions 4 and 5 wrap what follows into certification data of type 6.
  const qe = version === 3 ? auth : auth.certification(CERTIFICATION.qeReport);
  const qeReport = readSgxReport(qe.take(SGX_REPORT_LENGTH, 'the report of the quoting enclave'));
  const qeReportSignature = qe.take(64, 'the signature of that report');
  const qeAuthData = qe.take(qe.u16(), 'authentication data');
  const type = qe.u16();
  if (type < 1 || type > CERTIFICATION.most || type === CERTIFICATION.qeReport) {
    throw malformed(`unknown certification data type ${type}`);
  }
  const data = qe.counted('certification data');
  qe.end();
  auth.end();
  return {
    version,
    body,
    signed,
    signature,
    attestationKey,
    qeReport,
    qeReportSignature,
    qeAuthData,
    certification: { type, data },
    trailing,
  };
}

/** Versions 3 and 4 go by the header's TEE type; version 5 has a descriptor of 6 bytes: type, size. */
function readBody(cursor: Cursor, version: 3 | 4 | 5, tee: number): QuoteBody {
  if (tee !== TEE.sgx && !(tee === TEE.tdx && version > 3)) throw malformed(`unknown TEE type ${tee}`);
  const sgx = tee === TEE.sgx;
  let length = sgx ? SGX_REPORT_LENGTH : TD_REPORT_10_LENGTH;
  if (version === 5) {
    const type = cursor.u16();
    const size = cursor.u32();
    if (sgx ? type !== 1 : type !== 2 && type !== 3) throw malformed(`body type ${type} does not go with the TEE type`);
    if (type === 3) length = TD_REPORT_15_LENGTH;
    if (size !== length) throw malformed(`body type ${type}: expected ${length} bytes, found ${size}`);
  }
  const bytes = cursor.take(length, 'the report');
  return sgx ? { tee: 'sgx', report: readSgxReport(bytes) } : { tee: 'tdx', report: readTdReport(bytes) };
}

class Cursor {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  take(length: number, what: string): Buffer {
    if (length > this.left) throw malformed(`${what}: expected ${length} bytes, found ${this.left}`);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  since(start: number): Buffer {
    return this.#bytes.subarray(start, this.#at);
  }

  u16 = (): number => this.take(2, 'a number').readUInt16LE(0);
  u32 = (): number => this.take(4, 'a number').readUInt32LE(0);

  /** A length of 4 bytes, and that many bytes. */
  counted(what: string): Buffer {
    return this.take(this.u32(), what);
  }

  certification(type: number): Cursor {
    const found = this.u16();
    if (found !== type) throw malformed(`expected certification data of type ${type}, found ${found}`);
    return new Cursor(this.counted('certification data'));
  }

  end(): void {
    if (this.left > 0) throw malformed(`${this.left} bytes left over inside the signature data`);
  }
}

const malformed = (why: string) => usageError('ERR_EVIDENCE_MALFORMED', `quote: ${why}`);
