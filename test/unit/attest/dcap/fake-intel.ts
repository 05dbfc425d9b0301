import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { Endorsements, SignedJson } from '../../../../src/attest/types.ts';
import { basicConstraints, extension, keyUsage } from '../certificates.ts';
import { der, encodeOid, TAG } from '../der.ts';

// A PKI with the names and forms of Intel's, and quotes under it, so that tests can have what no genuine vector shows:
// revoked certificates, debug enclaves, every TCB status.

const SGX = '1.2.840.113741.1.13.1';
const ENUMERATED = 0x0a;
const ECDSA_SHA256 = der(TAG.sequence, der(TAG.oid, encodeOid('1.2.840.10045.4.3.2')));
export const newKey = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
type Pair = ReturnType<typeof newKey>;

const integer = (value: number) => {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex');
  return der(TAG.integer, (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.alloc(1), bytes]) : bytes);
};
export const distinguished = (text: string) =>
  der(
    TAG.sequence,
    der(TAG.set, der(TAG.sequence, der(TAG.oid, encodeOid('2.5.4.3')), der(TAG.utf8, Buffer.from(text)))),
  );
const time = (date: string) => der(TAG.utcTime, Buffer.from(date.replace(/^20|[-:T]/g, '')));
const pair = (id: string, value: Buffer) => der(TAG.sequence, der(TAG.oid, encodeOid(id)), value);
const octets = (bytes: Uint8Array) => der(TAG.octetString, bytes);
const signedBy = (tbs: Buffer, key: KeyObject) =>
  der(TAG.sequence, tbs, ECDSA_SHA256, der(TAG.bitString, Buffer.from([0]), sign('sha256', tbs, key)));

export interface Platform {
  ppid: Buffer;
  fmspc: Buffer;
  pceId: Buffer;
  components: number[];
  pceSvn: number;
}
export const PLATFORM: Platform = {
  ppid: Buffer.alloc(16, 0xaa),
  fmspc: Buffer.from('00a067110000', 'hex'),
  pceId: Buffer.alloc(2),
  components: Array(16).fill(5),
  pceSvn: 11,
};

export function sgxExtensionValue({ ppid, fmspc, pceId, components, pceSvn }: Platform): Buffer {
  const tcb = [
    ...components.map((svn, index) => pair(`${SGX}.2.${index + 1}`, integer(svn))),
    pair(`${SGX}.2.17`, integer(pceSvn)),
    pair(`${SGX}.2.18`, octets(Buffer.from(components))),
  ];
  return der(
    TAG.sequence,
    pair(`${SGX}.1`, octets(ppid)),
    pair(`${SGX}.2`, der(TAG.sequence, ...tcb)),
    pair(`${SGX}.3`, octets(pceId)),
    pair(`${SGX}.4`, octets(fmspc)),
    pair(`${SGX}.5`, der(ENUMERATED, Buffer.from([0]))),
  );
}

export interface CertificateRequest {
  subject: string;
  issuer: string;
  serial: number;
  extensions: Buffer[];
}

export function certificate(request: CertificateRequest, key: KeyObject, issuerKey: KeyObject): Buffer {
  const tbs = der(
    TAG.sequence,
    der(0xa0, integer(2)),
    integer(request.serial),
    ECDSA_SHA256,
    distinguished(request.issuer),
    der(TAG.sequence, time('2020-01-01T00:00:00Z'), time('2049-12-31T23:59:59Z')),
    distinguished(request.subject),
    key.export({ type: 'spki', format: 'der' }),
    der(0xa3, der(TAG.sequence, ...request.extensions)),
  );
  return signedBy(tbs, issuerKey);
}

const AUTHORITY = keyUsage(1, 0x06);
const LEAF = keyUsage(6, 0xc0);
const NAME = {
  root: 'Intel SGX Root CA',
  authority: 'Intel SGX PCK Processor CA',
  pck: 'Intel SGX PCK Certificate',
  signer: 'Intel SGX TCB Signing',
} as const;
export const SERIAL = { root: 1, authority: 2, pck: 3, signer: 4 } as const;

export interface CrlRequest {
  revoked?: number[];
  thisUpdate?: string;
  nextUpdate?: string;
  issuer?: string;
  extensions?: Buffer[];
}

export function crl(request: CrlRequest & { issuer: string }, key: KeyObject): Buffer {
  const entries = (request.revoked ?? []).map((serial) =>
    der(TAG.sequence, integer(serial), time('2026-01-01T00:00:00Z')),
  );
  const tbs = der(
    TAG.sequence,
    integer(1),
    ECDSA_SHA256,
    distinguished(request.issuer),
    time(request.thisUpdate ?? '2026-01-01T00:00:00Z'),
    time(request.nextUpdate ?? '2027-01-01T00:00:00Z'),
    ...(entries.length > 0 ? [der(TAG.sequence, ...entries)] : []),
    der(
      0xa0,
      der(
        TAG.sequence,
        extension('2.5.29.20', integer(1)),
        extension('2.5.29.35', der(TAG.sequence, der(0x80, Buffer.alloc(20, 7)))),
        ...(request.extensions ?? []),
      ),
    ),
  );
  return signedBy(tbs, key);
}

export const AT = new Date('2026-06-01T00:00:00Z');
const PERIOD = { issueDate: '2026-05-20T00:00:00Z', nextUpdate: '2026-06-20T00:00:00Z' };
export const QE_SIGNER = '8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff';
const svns = (value: number) => Array.from({ length: 16 }, () => ({ svn: value }));
const level = (value: number, pcesvn: number, tdx?: number) => ({
  sgxtcbcomponents: svns(value),
  pcesvn,
  ...(tdx === undefined ? {} : { tdxtcbcomponents: svns(tdx) }),
});
type Json = Record<string, unknown>;
export const tcbLevel = (
  value: number,
  pcesvn: number,
  tcbStatus: string,
  more: Json & { tdx?: number } = {},
): Json => {
  const { tdx, ...rest } = more;
  return { tcb: level(value, pcesvn, tdx), tcbDate: '2026-01-01T00:00:00Z', tcbStatus, ...rest };
};
export const moduleLevel = (isvsvn: number, tcbStatus: string, advisoryIDs: string[] = []): Json => ({
  tcb: { isvsvn },
  tcbDate: '2026-01-01T00:00:00Z',
  tcbStatus,
  advisoryIDs,
});

export interface QuoteRequest {
  version?: 3 | 4 | 5;
  tee?: 'sgx' | 'tdx';
  /** 584, or 648 for TDX 1.5 in version 5. */
  tdReportLength?: 584 | 648;
  /** Changes the report before the quote is signed. */
  report?: (bytes: Buffer) => void;
  qeReport?: (bytes: Buffer) => void;
  certification?: { type: number; data: Buffer };
  trailing?: number;
}

/** A whole Intel: authorities, one machine, one quoting enclave. */
export class FakeIntel {
  readonly root = newKey();
  readonly authority = newKey();
  readonly pck = newKey();
  readonly signer = newKey();
  readonly attestation = newKey();
  readonly certificates: Record<keyof typeof NAME, Buffer>;

  constructor(platform: Platform = PLATFORM) {
    const issue = (name: keyof typeof NAME, issuer: keyof typeof NAME, extensions: Buffer[]) =>
      certificate(
        { subject: NAME[name], issuer: NAME[issuer], serial: SERIAL[name], extensions },
        this[name].publicKey,
        this[issuer].privateKey,
      );
    this.certificates = {
      root: issue('root', 'root', [basicConstraints(true, 1), AUTHORITY]),
      authority: issue('authority', 'root', [basicConstraints(true, 0), AUTHORITY]),
      pck: issue('pck', 'authority', [basicConstraints(false), LEAF, extension(SGX, sgxExtensionValue(platform))]),
      signer: issue('signer', 'root', [basicConstraints(false), LEAF]),
    };
  }

  get pem(): Buffer {
    const { pck, authority, root } = this.certificates;
    const block = (bytes: Buffer) =>
      `-----BEGIN CERTIFICATE-----\n${bytes.toString('base64').replace(/(.{64})(?=.)/g, '$1\n')}\n-----END CERTIFICATE-----\n`;
    return Buffer.from(`${[pck, authority, root].map(block).join('')}\0`);
  }

  crl(of: 'root' | 'authority', request: CrlRequest = {}, key: Pair = this[of]): Buffer {
    return crl({ issuer: NAME[of], ...request }, key.privateKey);
  }

  signed(json: Json | string, key: Pair = this.signer): SignedJson {
    const body = Buffer.from(typeof json === 'string' ? json : JSON.stringify(json));
    return { body, signature: sign('sha256', body, { key: key.privateKey, dsaEncoding: 'ieee-p1363' }) };
  }

  tcbInfo(change: Json = {}, key?: Pair): SignedJson {
    return this.signed(
      {
        id: 'SGX',
        version: 3,
        ...PERIOD,
        fmspc: PLATFORM.fmspc.toString('hex').toUpperCase(),
        pceId: '0000',
        tcbType: 0,
        tcbEvaluationDataNumber: 20,
        tcbLevels: [tcbLevel(5, 11, 'UpToDate'), tcbLevel(2, 5, 'OutOfDate', { advisoryIDs: ['INTEL-SA-00001'] })],
        ...change,
      },
      key,
    );
  }

  tdxInfo(change: Json = {}): SignedJson {
    const intel = { mrsigner: '00'.repeat(48), attributes: '00'.repeat(8), attributesMask: 'FF'.repeat(8) };
    return this.tcbInfo({
      id: 'TDX',
      tdxModule: intel,
      tdxModuleIdentities: [
        {
          id: 'TDX_01',
          ...intel,
          tcbLevels: [moduleLevel(6, 'UpToDate'), moduleLevel(2, 'OutOfDate', ['INTEL-SA-00002'])],
        },
      ],
      tcbLevels: [tcbLevel(5, 11, 'UpToDate', { tdx: 4 }), tcbLevel(2, 5, 'OutOfDate', { tdx: 2 })],
      ...change,
    });
  }

  qeIdentity(change: Json = {}, key?: Pair): SignedJson {
    return this.signed(
      {
        id: 'QE',
        version: 2,
        ...PERIOD,
        tcbEvaluationDataNumber: 19,
        miscselect: '00000000',
        miscselectMask: 'FFFFFFFF',
        attributes: '11000000000000000000000000000000',
        attributesMask: 'FBFFFFFFFFFFFFFF0000000000000000',
        mrsigner: QE_SIGNER.toUpperCase(),
        isvprodid: 1,
        tcbLevels: [moduleLevel(8, 'UpToDate'), moduleLevel(4, 'OutOfDate', ['INTEL-SA-00003'])],
        ...change,
      },
      key,
    );
  }

  endorsements(change: Partial<Endorsements> = {}): Endorsements {
    const { root, authority, signer } = this.certificates;
    return {
      certificates: [signer, authority, root],
      crls: [this.crl('root'), this.crl('authority')],
      tcbInfos: [this.tcbInfo(), this.tdxInfo()],
      qeIdentities: [this.qeIdentity(), this.qeIdentity({ id: 'TD_QE' })],
      ...change,
    };
  }

  quote(request: QuoteRequest = {}): Buffer {
    const { version = 3, tee = 'sgx', tdReportLength = 584 } = request;
    const header = Buffer.alloc(48);
    header.writeUInt16LE(version, 0);
    header.writeUInt16LE(2, 2);
    header.writeUInt32LE(tee === 'sgx' ? 0 : 0x81, 4);
    Buffer.from('939a7233f79c4ca9940a0db3957f0607', 'hex').copy(header, 12);
    const report = Buffer.alloc(tee === 'sgx' ? 384 : tdReportLength);
    if (tee === 'sgx') report[48] = 0x05;
    else Buffer.alloc(16, 4).fill(6, 0, 1).fill(1, 1, 2).copy(report);
    request.report?.(report);
    const descriptor = Buffer.alloc(version === 5 ? 6 : 0);
    if (version === 5) {
      descriptor.writeUInt16LE(tee === 'sgx' ? 1 : tdReportLength === 584 ? 2 : 3, 0);
      descriptor.writeUInt32LE(report.length, 2);
    }
    const signed = Buffer.concat([header, descriptor, report]);
    const data = request.certification ?? { type: 5, data: this.pem };
    const auth = this.#auth(signed, version, request, data);
    return Buffer.concat([signed, sized(auth), Buffer.alloc(request.trailing ?? 0, 0xee)]);
  }

  #auth(signed: Buffer, version: number, request: QuoteRequest, data: { type: number; data: Buffer }): Buffer {
    const raw = (key: Pair, bytes: Buffer) => sign('sha256', bytes, { key: key.privateKey, dsaEncoding: 'ieee-p1363' });
    const { x = '', y = '' } = this.attestation.publicKey.export({ format: 'jwk' });
    const point = Buffer.concat([Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
    const qeAuth = Buffer.from('quoting enclave');
    const qeReport = Buffer.alloc(384);
    qeReport[48] = 0x15;
    Buffer.from(QE_SIGNER, 'hex').copy(qeReport, 128);
    qeReport.writeUInt16LE(1, 256);
    qeReport.writeUInt16LE(8, 258);
    createHash('sha256').update(point).update(qeAuth).digest().copy(qeReport, 320);
    request.qeReport?.(qeReport);
    const qe = [qeReport, raw(this.pck, qeReport), short(qeAuth.length), qeAuth, short(data.type), sized(data.data)];
    const certification = version === 3 ? Buffer.concat(qe) : Buffer.concat([short(6), sized(Buffer.concat(qe))]);
    return Buffer.concat([raw(this.attestation, signed), point, certification]);
  }
}

function short(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function sized(data: Buffer): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(data.length);
  return Buffer.concat([bytes, data]);
}
