import { describe, expect, test } from 'vitest';
import type { PckPlatform } from '../../../../src/attest/dcap/pck.ts';
import { parseQeIdentity } from '../../../../src/attest/dcap/qe-identity.ts';
import { readSgxReport, readTdReport } from '../../../../src/attest/dcap/report.ts';
import { parseTcbInfo } from '../../../../src/attest/dcap/tcb-info.ts';
import { rateTcb } from '../../../../src/attest/dcap/tcb-level.ts';
import { FakeIntel, moduleLevel, PLATFORM, tcbLevel } from './fake-intel.ts';

const intel = new FakeIntel();
const STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
] as const;
type Status = (typeof STATUSES)[number];

const platform: PckPlatform = {
  ppid: '',
  fmspc: '',
  pceId: '',
  cpuSvn: '',
  sgxType: 'standard',
  components: PLATFORM.components,
  pceSvn: PLATFORM.pceSvn,
};
const qeReport = (isvSvn: number) => {
  const bytes = Buffer.alloc(384);
  bytes.writeUInt16LE(isvSvn, 258);
  return readSgxReport(bytes);
};
/** A report of TDX 1.5 (or 1.0 without `running`) with these SVNs: module SVN, module version, SEAM loader, the rest. */
const tdReport = (svns: number[], running?: number[]) => {
  const bytes = Buffer.alloc(running === undefined ? 584 : 648);
  Buffer.alloc(16, 4).copy(bytes);
  Buffer.from(svns).copy(bytes);
  if (running !== undefined) {
    bytes.fill(4, 584, 600);
    Buffer.from(running).copy(bytes, 584);
  }
  return readTdReport(bytes);
};

const identity = (qe: string) =>
  parseQeIdentity(intel.qeIdentity({ tcbLevels: [moduleLevel(0, qe, ['INTEL-SA-00003'])] }).body);
const sgx = (levels: unknown[]) => parseTcbInfo(intel.tcbInfo({ tcbLevels: levels }).body);
const rateSgx = (levels: unknown[], qe = 'UpToDate', machine: Partial<PckPlatform> = {}) =>
  rateTcb(sgx(levels), identity(qe), { ...platform, ...machine }, qeReport(8));

const INTEL = { mrsigner: '00'.repeat(48), attributes: '00'.repeat(8), attributesMask: 'FF'.repeat(8) };
const modules = (levels: unknown[]) => [{ id: 'TDX_01', ...INTEL, tcbLevels: levels }];
const rateTdx = (levels: unknown[], moduleLevels: unknown[], report: ReturnType<typeof tdReport>, qe = 'UpToDate') =>
  rateTcb(
    parseTcbInfo(intel.tdxInfo({ tcbLevels: levels, tdxModuleIdentities: modules(moduleLevels) }).body),
    identity(qe),
    platform,
    qeReport(8),
    report,
  );
const status = (rating: ReturnType<typeof rateTcb>) => ('status' in rating ? rating.status : rating.unrated);

describe('SGX levels', () => {
  test('the highest level that every SVN reaches counts, in whatever order they come', () => {
    const levels = [
      tcbLevel(2, 5, 'OutOfDate', { advisoryIDs: ['INTEL-SA-00009'] }),
      tcbLevel(6, 11, 'UpToDate'),
      tcbLevel(5, 12, 'UpToDate'),
      tcbLevel(4, 11, 'SWHardeningNeeded', { advisoryIDs: ['INTEL-SA-00334', 'INTEL-SA-00289'] }),
    ];
    const rating = rateSgx(levels);
    expect(rating).toEqual({
      status: 'SWHardeningNeeded',
      advisories: ['INTEL-SA-00003', 'INTEL-SA-00289', 'INTEL-SA-00334'],
      date: '2026-01-01T00:00:00Z',
      evaluation: 19,
      parts: { platform: 'SWHardeningNeeded', qe: 'UpToDate' },
    });
  });

  test('one component below is below', () => {
    const levels = [tcbLevel(5, 11, 'UpToDate'), tcbLevel(1, 1, 'OutOfDate')];
    for (let index = 0; index < 16; index++) {
      const components = PLATFORM.components.with(index, 4);
      expect(status(rateSgx(levels, 'UpToDate', { components }))).toBe('OutOfDate');
    }
    expect(status(rateSgx(levels, 'UpToDate', { pceSvn: 10 }))).toBe('OutOfDate');
  });

  test('below every level there is no rating', () => {
    expect(status(rateSgx([tcbLevel(6, 1, 'UpToDate')]))).toBe(
      'no TCB level fits the PCK certificate: even the lowest asks for SVN 6 of component 1, found 5',
    );
    expect(
      status(
        rateTcb(sgx([tcbLevel(1, 1, 'UpToDate')]), parseQeIdentity(intel.qeIdentity().body), platform, qeReport(3)),
      ),
    ).toMatch(/^no level of the QE identity/);
  });

  test('two equal levels are refused: which one counts?', () => {
    expect(() => sgx([tcbLevel(5, 11, 'UpToDate'), tcbLevel(5, 11, 'Revoked')])).toThrowError(
      /two levels are the same/,
    );
  });
});

/** Intel QVL, convergeTcbStatusWithQeTcbStatus and convergeTcbStatusWithTdxModuleStatus. */
const OUT_OF_DATE: Record<Status, string> = {
  UpToDate: 'OutOfDate',
  SWHardeningNeeded: 'OutOfDate',
  ConfigurationNeeded: 'OutOfDateConfigurationNeeded',
  ConfigurationAndSWHardeningNeeded: 'OutOfDateConfigurationNeeded',
  OutOfDate: 'OutOfDate',
  OutOfDateConfigurationNeeded: 'OutOfDateConfigurationNeeded',
  Revoked: 'Revoked',
};

describe.each(STATUSES)('a platform that is %s', (platformStatus) => {
  const levels = [tcbLevel(5, 11, platformStatus)];
  test('with a quoting enclave of each status', () => {
    expect(status(rateSgx(levels, 'UpToDate'))).toBe(platformStatus);
    for (const qe of ['OutOfDate', 'ConfigurationNeeded', 'OutOfDateConfigurationNeeded']) {
      expect(status(rateSgx(levels, qe))).toBe(OUT_OF_DATE[platformStatus]);
    }
    expect(status(rateSgx(levels, 'Revoked'))).toBe('Revoked');
  });

  test('with a TDX module of each status', () => {
    const tdx = [tcbLevel(5, 11, platformStatus, { tdx: 4 })];
    const report = tdReport([3, 1]);
    expect(status(rateTdx(tdx, [moduleLevel(3, 'UpToDate')], report))).toBe(platformStatus);
    expect(status(rateTdx(tdx, [moduleLevel(3, 'OutOfDate')], report))).toBe(OUT_OF_DATE[platformStatus]);
    expect(status(rateTdx(tdx, [moduleLevel(3, 'Revoked')], report))).toBe('Revoked');
    // The module and the quoting enclave both.
    expect(status(rateTdx(tdx, [moduleLevel(3, 'OutOfDate')], report, 'OutOfDate'))).toBe(OUT_OF_DATE[platformStatus]);
  });
});

describe('TDX levels', () => {
  const levels = [
    tcbLevel(5, 11, 'UpToDate', { tdx: 4 }),
    tcbLevel(5, 10, 'OutOfDate', { tdx: 2, advisoryIDs: ['INTEL-SA-00100'] }),
  ];
  const newest = [moduleLevel(6, 'UpToDate'), moduleLevel(2, 'OutOfDate', ['INTEL-SA-00002'])];

  test('the level that counts is the first that machine and domain reach; advisories of every part', () => {
    expect(rateTdx(levels, newest, tdReport([6, 1, 3]))).toMatchObject({
      status: 'OutOfDate',
      advisories: ['INTEL-SA-00003', 'INTEL-SA-00100'],
      parts: { platform: 'OutOfDate', module: 'UpToDate', qe: 'UpToDate' },
    });
    expect(rateTdx(levels, newest, tdReport([5, 1]))).toMatchObject({
      status: 'OutOfDate',
      advisories: ['INTEL-SA-00002', 'INTEL-SA-00003'],
      parts: { platform: 'UpToDate', module: 'OutOfDate' },
    });
  });

  test('with a module version its SVN is the module’s matter, without one the platform’s', () => {
    expect(status(rateTdx(levels, [moduleLevel(0, 'UpToDate')], tdReport([0, 1])))).toBe('UpToDate');
    expect(status(rateTdx(levels, [moduleLevel(0, 'UpToDate')], tdReport([0, 0])))).toMatch(
      /^no TCB level fits the SVNs of the TD/,
    );
    // All levels ask for 4 or 2 at index 1, where version 0 has 0: so only a level that asks for nothing there fits.
    const zero = [{ ...tcbLevel(5, 11, 'UpToDate', { tdx: 0 }) }];
    expect(status(rateTdx(zero, [moduleLevel(99, 'Revoked')], tdReport([0, 0])))).toBe('UpToDate');
  });

  test('a module below every level is not rated', () => {
    expect(status(rateTdx(levels, [moduleLevel(6, 'UpToDate')], tdReport([5, 1])))).toBe(
      'no level fits TDX module SVN 5',
    );
  });
});

describe('TDX 1.5: starting the domain again helps', () => {
  const newest = [moduleLevel(6, 'UpToDate'), moduleLevel(2, 'OutOfDate')];
  const up = [tcbLevel(5, 11, 'UpToDate', { tdx: 4 })];
  const rate = (levels: unknown[], running: number[] | undefined, qe = 'UpToDate', started = [3, 1]) =>
    status(rateTdx(levels, newest, tdReport(started, running), qe));

  test.each<[string, string, string]>([
    ['UpToDate', 'UpToDate', 'TDRelaunchAdvised'],
    ['SWHardeningNeeded', 'UpToDate', 'TDRelaunchAdvised'],
    ['ConfigurationNeeded', 'UpToDate', 'TDRelaunchAdvisedConfigurationNeeded'],
    ['ConfigurationAndSWHardeningNeeded', 'UpToDate', 'TDRelaunchAdvisedConfigurationNeeded'],
    ['OutOfDate', 'UpToDate', 'OutOfDate'],
    ['Revoked', 'UpToDate', 'Revoked'],
    ['UpToDate', 'OutOfDate', 'OutOfDate'],
    ['UpToDate', 'Revoked', 'Revoked'],
  ])('platform %s, quoting enclave %s: %s', (platformStatus, qe, expected) => {
    expect(rate([tcbLevel(5, 11, platformStatus, { tdx: 4 })], [6, 1, 4], qe)).toBe(expected);
  });

  test('not where the running module is not the newest, its loader is old, or it is a TDX 1.0 report', () => {
    expect(rate(up, [5, 1, 4])).toBe('OutOfDate');
    expect(rate(up, [6, 1, 3])).toBe('OutOfDate');
    expect(rate(up, undefined)).toBe('OutOfDate');
  });

  test('not where the module was new at the start', () => {
    expect(rate(up, [6, 1, 4], 'UpToDate', [6, 1])).toBe('UpToDate');
  });

  test('a running module without version goes by the best level; of an unknown version there is no rating', () => {
    expect(rate(up, [4, 0, 4])).toBe('TDRelaunchAdvised');
    expect(rate(up, [3, 0, 4])).toBe('OutOfDate');
    expect(rate(up, [9, 7, 4])).toBe('the TCB info knows no TDX module of version 7');
  });
});
