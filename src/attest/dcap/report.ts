/**
 * The two kinds of report that quotes carry. Offsets: Intel SDM volume 3D table "REPORT" (sgx_report_body_t in
 * sgx_report.h) for SGX, "Intel TDX DCAP Quote Generation Library and Quote Verification Library", appendix A.3
 * (sgx_report2_body_t in sgx_quote_4.h and _v1_5_t in sgx_quote_5.h) for TDX. All integers are little-endian.
 */
export const SGX_REPORT_LENGTH = 384;
export const TD_REPORT_10_LENGTH = 584;
export const TD_REPORT_15_LENGTH = 648;

/** An SGX enclave's report body; `bytes` are views of the quote. */
export interface SgxReport {
  bytes: Buffer;
  cpuSvn: Buffer;
  miscSelect: Buffer;
  /** Flags (8 bytes) and XFRM (8 bytes). */
  attributes: Buffer;
  mrenclave: Buffer;
  mrsigner: Buffer;
  configId: Buffer;
  isvProdId: number;
  isvSvn: number;
  configSvn: number;
  reportData: Buffer;
}

export function readSgxReport(bytes: Buffer): SgxReport {
  return {
    bytes,
    cpuSvn: bytes.subarray(0, 16),
    miscSelect: bytes.subarray(16, 20),
    attributes: bytes.subarray(48, 64),
    mrenclave: bytes.subarray(64, 96),
    mrsigner: bytes.subarray(128, 160),
    configId: bytes.subarray(192, 256),
    isvProdId: bytes.readUInt16LE(256),
    isvSvn: bytes.readUInt16LE(258),
    configSvn: bytes.readUInt16LE(260),
    reportData: bytes.subarray(320, 384),
  };
}

/** A trust domain's report body, of TDX 1.0 or 1.5. */
export interface TdReport {
  bytes: Buffer;
  /** 16 SVNs: [0] the TDX module's, [1] its version, [2] SEAM loader, ... */
  teeTcbSvn: Buffer;
  mrSeam: Buffer;
  mrSignerSeam: Buffer;
  seamAttributes: Buffer;
  tdAttributes: Buffer;
  xfam: Buffer;
  mrTd: Buffer;
  mrConfigId: Buffer;
  mrOwner: Buffer;
  mrOwnerConfig: Buffer;
  rtmr: [Buffer, Buffer, Buffer, Buffer];
  reportData: Buffer;
  /** TDX 1.5: the TCB of the module that runs now, after updates that need no restart; and the hash of service domains. */
  teeTcbSvn2?: Buffer;
  mrServiceTd?: Buffer;
}

export function readTdReport(bytes: Buffer): TdReport {
  const register = (offset: number) => bytes.subarray(offset, offset + 48);
  return {
    bytes,
    teeTcbSvn: bytes.subarray(0, 16),
    mrSeam: register(16),
    mrSignerSeam: register(64),
    seamAttributes: bytes.subarray(112, 120),
    tdAttributes: bytes.subarray(120, 128),
    xfam: bytes.subarray(128, 136),
    mrTd: register(136),
    mrConfigId: register(184),
    mrOwner: register(232),
    mrOwnerConfig: register(280),
    rtmr: [register(328), register(376), register(424), register(472)],
    reportData: bytes.subarray(520, 584),
    ...(bytes.length === TD_REPORT_15_LENGTH
      ? { teeTcbSvn2: bytes.subarray(584, 600), mrServiceTd: register(600) }
      : {}),
  };
}
