import type { PlatformStatus } from './json.ts';
import type { PckPlatform } from './pck.ts';
import type { QeIdentity } from './qe-identity.ts';
import type { SgxReport, TdReport } from './report.ts';
import type { TcbInfo, TcbLevel } from './tcb-info.ts';
import { moduleLevel, relaunchAdvised } from './tdx-module.ts';

/** How Intel rates the machine, its quoting enclave and its TDX module together. */
export interface TcbRating {
  status: PlatformStatus;
  /** Of every level that matched, sorted, each once. */
  advisories: string[];
  /** tcbDate of the platform's level. */
  date: string;
  /** The lower tcbEvaluationDataNumber of TCB info and QE identity. */
  evaluation: number;
  /** Before they converge. */
  parts: { platform: string; qe: string; module?: string };
}

/** No level of the TCB info fits: Intel never rated such a machine. */
export interface Unrated {
  unrated: string;
}

/** Rates a platform (Intel QVL, TcbLevelCheck.cpp, 4.1.2.4.17). `td` is the report of a trust domain, absent for SGX. */
export function rateTcb(
  info: TcbInfo,
  identity: QeIdentity,
  platform: PckPlatform,
  qe: SgxReport,
  td?: TdReport,
): TcbRating | Unrated {
  const fitting = info.levels.filter((level) => platformReaches(platform, level));
  const [sgxLevel] = fitting;
  if (sgxLevel === undefined) {
    return { unrated: `no TCB level fits the PCK certificate: even the lowest asks for ${shortfall(platform, info)}` };
  }
  const level = td === undefined ? sgxLevel : fitting.find((one) => domainReaches(td.teeTcbSvn, one));
  if (level === undefined) return { unrated: 'no TCB level fits the SVNs of the TD report' };
  const qeLevel = identity.levels.find(({ isvSvn }) => isvSvn <= qe.isvSvn);
  if (qeLevel === undefined) return { unrated: `no level of the QE identity fits ISVSVN ${qe.isvSvn}` };
  const module = td === undefined ? 'none' : moduleLevel(info, td);
  if (module === null) return { unrated: `no level fits TDX module SVN ${td?.teeTcbSvn[0]}` };
  const qeStatus = simple(qeLevel.status);
  const moduleStatus = module === 'none' ? 'UpToDate' : simple(module.status);
  let status: PlatformStatus = converge(level.status, moduleStatus);
  if (td?.teeTcbSvn2 !== undefined && moduleStatus === 'OutOfDate' && qeStatus === 'UpToDate') {
    const advised = relaunchAdvised(info, td.teeTcbSvn2, sgxLevel.status, status);
    if (advised === null) return { unrated: `the TCB info knows no TDX module of version ${td.teeTcbSvn2[1]}` };
    status = advised;
  }
  const advisories = [level, qeLevel, ...(module === 'none' ? [] : [module])].flatMap((one) => one.advisories);
  return {
    status: converge(status, qeStatus),
    advisories: [...new Set(advisories)].sort(),
    date: level.date,
    evaluation: Math.min(info.evaluation, identity.evaluation),
    parts: {
      platform: level.status,
      qe: qeLevel.status,
      ...(module === 'none' ? {} : { module: module.status }),
    },
  };
}

const platformReaches = (platform: PckPlatform, level: TcbLevel): boolean =>
  level.sgx.every((svn, index) => (platform.components[index] ?? 0) >= svn) && platform.pceSvn >= level.pceSvn;

/** What the lowest level asks for and the platform does not have, for people. */
function shortfall(platform: PckPlatform, { levels }: TcbInfo): string {
  const lowest = levels.at(-1);
  const index = lowest?.sgx.findIndex((svn, i) => (platform.components[i] ?? 0) < svn) ?? -1;
  return index < 0
    ? `PCE SVN ${lowest?.pceSvn}, found ${platform.pceSvn}`
    : `SVN ${lowest?.sgx[index]} of component ${index + 1}, found ${platform.components[index]}`;
}

/** With a module version the first two SVNs are the module's own, which its identity rates. */
function domainReaches(svns: Buffer, level: TcbLevel): boolean {
  const first = (svns[1] ?? 0) > 0 ? 2 : 0;
  return level.tdx?.every((svn, index) => index < first || (svns[index] ?? 0) >= svn) ?? false;
}

type Simple = 'UpToDate' | 'OutOfDate' | 'Revoked';

/** A quoting enclave or a module has nothing to configure: whatever is not up to date is out of date. */
const simple = (status: string): Simple => (status === 'UpToDate' || status === 'Revoked' ? status : 'OutOfDate');

function converge(status: PlatformStatus, other: Simple): PlatformStatus {
  if (other === 'Revoked') return 'Revoked';
  if (other === 'UpToDate') return status;
  if (status === 'UpToDate' || status === 'SWHardeningNeeded') return 'OutOfDate';
  if (status === 'ConfigurationNeeded' || status === 'ConfigurationAndSWHardeningNeeded') {
    return 'OutOfDateConfigurationNeeded';
  }
  return status;
}
