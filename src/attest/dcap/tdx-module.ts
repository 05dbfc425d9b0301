import { hex, isZero } from '../../core/bytes.ts';
import type { PlatformStatus } from './json.ts';
import type { TdReport } from './report.ts';
import type { TcbInfo, TdxModuleIdentity } from './tcb-info.ts';

/** A rule of Intel's that does not hold, in words. */
export interface Mismatch {
  expected: string;
  actual: string;
}

const identityId = (version: number): string => `TDX_${version.toString(16).padStart(2, '0').toUpperCase()}`;

/** The identity of the TDX module's version, from the SVNs of a report; undefined for version 0, which has none. */
export const moduleIdentity = (info: TcbInfo, svns: Buffer): TdxModuleIdentity | undefined =>
  info.tdxModuleIdentities.find(({ id }) => id === identityId(svns[1] ?? 0));

/**
 * The TDX module must be signed by whom the TCB info says and have no attributes. From version 1 on an identity of that
 * version says it, before the TCB info as a whole (Intel QVL, QuoteVerifier.cpp, 4.1.2.4.11).
 */
export function checkModule(info: TcbInfo, report: TdReport): Mismatch | undefined {
  const version = report.teeTcbSvn[1] ?? 0;
  const expected = version > 0 ? moduleIdentity(info, report.teeTcbSvn) : info.tdxModule;
  if (expected === undefined) {
    const known = info.tdxModuleIdentities.map(({ id }) => id).join(', ') || 'none';
    return { expected: `a TDX module identity that the TCB info knows (${known})`, actual: identityId(version) };
  }
  const signer = hex(report.mrSignerSeam);
  if (signer !== expected.mrsigner) return { expected: `signer ${expected.mrsigner}`, actual: signer };
  const attributes = hex(report.seamAttributes);
  if (!isZero(report.seamAttributes) || attributes !== expected.attributes) {
    return { expected: `attributes ${expected.attributes}, all zero`, actual: attributes };
  }
  return undefined;
}

/** The level of the module's SVN; "none" where version 0 leaves it to the platform's level, null where no level fits. */
export function moduleLevel(info: TcbInfo, report: TdReport): TdxModuleIdentity['levels'][number] | 'none' | null {
  const [svn = 0, version = 0] = report.teeTcbSvn;
  if (version === 0) return 'none';
  return moduleIdentity(info, report.teeTcbSvn)?.levels.find(({ isvSvn }) => isvSvn <= svn) ?? null;
}

const GOOD: PlatformStatus[] = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
];
const needsConfiguration = (status: PlatformStatus): boolean => /Configuration/.test(status);

/**
 * TDX 1.5: the domain started under a module that is out of date by now, but the module that runs (teeTcbSvn2) is the
 * newest: starting the domain again is enough (Intel QVL, TDRelaunchCheck.cpp, 4.1.2.4.17.4.3). Returns the status as it
 * was where that does not apply, and null where the TCB info does not know the module that runs.
 */
export function relaunchAdvised(
  info: TcbInfo,
  svns2: Buffer,
  platform: PlatformStatus,
  status: PlatformStatus,
): PlatformStatus | null {
  const outOfDate = status === 'OutOfDate' || status === 'OutOfDateConfigurationNeeded';
  if (!GOOD.includes(platform) || !outOfDate) return status;
  const [svn = 0, version = 0, loader = 0] = svns2;
  const best = info.levels[0]?.tdx ?? [];
  const newest = version === 0 ? best[0] : moduleIdentity(info, svns2)?.levels[0]?.isvSvn;
  if (newest === undefined) return null;
  if (svn < newest || loader < (best[2] ?? 0)) return status;
  return needsConfiguration(platform) || needsConfiguration(status)
    ? 'TDRelaunchAdvisedConfigurationNeeded'
    : 'TDRelaunchAdvised';
}
