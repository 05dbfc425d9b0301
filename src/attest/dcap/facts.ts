import { hex, isZero } from '../../core/bytes.ts';
import type { PckPlatform } from './pck.ts';
import type { Quote } from './quote.ts';
import type { TcbRating } from './tcb-level.ts';

/** What else a quote and its PCK certificate say, for people. Of use only where the checks passed. */
export function dcapFacts(
  { version, body, qeReport, certification, trailing }: Quote,
  platform: PckPlatform | undefined,
  rating: TcbRating | undefined,
): Record<string, string> {
  const own: Record<string, string> =
    body.tee === 'sgx'
      ? {
          'CPU SVN': hex(body.report.cpuSvn),
          ATTRIBUTES: hex(body.report.attributes),
          MISCSELECT: hex(body.report.miscSelect),
          ...(isZero(body.report.configId) ? {} : { CONFIGID: hex(body.report.configId) }),
          ...(body.report.configSvn === 0 ? {} : { CONFIGSVN: String(body.report.configSvn) }),
        }
      : {
          'TEE TCB SVN': hex(body.report.teeTcbSvn),
          ...(body.report.teeTcbSvn2 === undefined ? {} : { 'TEE TCB SVN 2': hex(body.report.teeTcbSvn2) }),
          ...(body.report.mrServiceTd === undefined ? {} : { MRSERVICETD: hex(body.report.mrServiceTd) }),
        };
  return {
    'quote version': String(version),
    ...own,
    'quoting enclave ISVSVN': String(qeReport.isvSvn),
    'certification data': `type ${certification.type}`,
    ...(trailing > 0 ? { 'bytes after the quote': String(trailing) } : {}),
    ...(platform === undefined
      ? {}
      : {
          FMSPC: platform.fmspc,
          PCEID: platform.pceId,
          'PCE SVN': String(platform.pceSvn),
          'SGX type': platform.sgxType,
          ...(platform.instance === undefined ? {} : { 'platform instance': platform.instance }),
          ...(platform.smtEnabled === undefined ? {} : { SMT: platform.smtEnabled ? 'on' : 'off' }),
        }),
    ...(rating === undefined
      ? {}
      : {
          'TCB of the platform': rating.parts.platform,
          'TCB of the quoting enclave': rating.parts.qe,
          ...(rating.parts.module === undefined ? {} : { 'TCB of the TDX module': rating.parts.module }),
        }),
  };
}
