import * as z from 'zod';
import { usageError } from '../../core/errors.ts';
import { bytes, components, date, type IsvLevel, isoTime, isvLevels, objectOf, STATUSES, svn8, svn16 } from './json.ts';

/**
 * TCB info as Intel's PCS gives it ("Intel SGX and TDX PCS API", appendix A: version 3; version 2 is the one before TDX,
 * of which Intel's sample data is). Parsed, not verified; byte strings are lower-case hex.
 */
export interface TcbInfo {
  version: 2 | 3;
  id: 'SGX' | 'TDX';
  issueDate: Date;
  nextUpdate: Date;
  fmspc: string;
  pceId: string;
  evaluation: number;
  /** Best first. */
  levels: TcbLevel[];
  tdxModule?: TdxModule;
  tdxModuleIdentities: TdxModuleIdentity[];
}

export interface TcbLevel {
  /** 16 SVNs each. */
  sgx: number[];
  tdx?: number[];
  pceSvn: number;
  status: (typeof STATUSES)[number];
  date: string;
  advisories: string[];
}

export interface TdxModule {
  mrsigner: string;
  attributes: string;
  attributesMask: string;
}

export interface TdxModuleIdentity extends TdxModule {
  /** "TDX_03": the version of the module. */
  id: string;
  /** Highest SVN first. */
  levels: IsvLevel<(typeof STATUSES)[number]>[];
}

const advisoryIDs = z.array(z.string().max(64)).max(1024).default([]);
const rating = { tcbDate: date, tcbStatus: z.enum(STATUSES), advisoryIDs };
const numbered = Object.fromEntries(
  Array.from({ length: 16 }, (_, index) => [`sgxtcbcomp${String(index + 1).padStart(2, '0')}svn`, svn8]),
);
const head = {
  issueDate: date,
  nextUpdate: date,
  fmspc: bytes(6),
  pceId: bytes(2),
  tcbType: z.literal(0),
  tcbEvaluationDataNumber: z.number().int().nonnegative().max(0xffffffff),
};
const levels = <T extends z.ZodType>(tcb: T) =>
  z
    .array(z.object({ tcb, ...rating }))
    .min(1)
    .max(256);
const moduleIdentity = { mrsigner: bytes(48), attributes: bytes(8), attributesMask: bytes(8) };

const version2 = z.object({
  version: z.literal(2),
  ...head,
  tcbLevels: levels(
    z.object({ ...numbered, pcesvn: svn16 }).transform(({ pcesvn, ...numbers }) => ({
      sgx: Object.keys(numbered).map((key) => (numbers as Record<string, number>)[key] as number),
      pcesvn,
    })),
  ),
});
const sgx3 = z.object({
  version: z.literal(3),
  id: z.literal('SGX'),
  ...head,
  // Intel's library refuses TCB info for SGX that has any.
  tdxModule: z.undefined().optional(),
  tdxModuleIdentities: z.undefined().optional(),
  tcbLevels: levels(
    z
      .object({ sgxtcbcomponents: components, pcesvn: svn16 })
      .transform(({ sgxtcbcomponents: sgx, pcesvn }) => ({ sgx, pcesvn })),
  ),
});
const tdx3 = z.object({
  version: z.literal(3),
  id: z.literal('TDX'),
  ...head,
  tdxModule: z.object(moduleIdentity),
  tdxModuleIdentities: z
    .array(
      z.object({
        id: z.string().regex(/^TDX_[0-9A-Fa-f]{2}$/),
        ...moduleIdentity,
        tcbLevels: levels(z.object({ isvsvn: svn8 })),
      }),
    )
    .min(1)
    .max(256)
    .default([]),
  tcbLevels: levels(
    z
      .object({ sgxtcbcomponents: components, tdxtcbcomponents: components, pcesvn: svn16 })
      .transform(({ sgxtcbcomponents: sgx, tdxtcbcomponents: tdx, pcesvn }) => ({ sgx, tdx, pcesvn })),
  ),
});

/** Throws `ERR_COLLATERAL_MALFORMED` (exit 2) with the place of the first problem. Verifies nothing. */
export function parseTcbInfo(body: Uint8Array): TcbInfo {
  const json = objectOf(body, 'TCB info');
  const result = (json.version === 2 ? version2 : json.id === 'TDX' ? tdx3 : sgx3).safeParse(json);
  if (!result.success) {
    const [issue] = result.error.issues;
    const place = issue?.path.join('.') || 'top level';
    throw usageError('ERR_COLLATERAL_MALFORMED', `TCB info: ${place}: ${issue?.message ?? 'malformed'}`);
  }
  const info = result.data;
  const tcbLevels: TcbLevel[] = info.tcbLevels.map(({ tcb: { pcesvn: pceSvn, ...svns }, ...level }) => ({
    ...svns,
    pceSvn,
    status: level.tcbStatus,
    date: isoTime(level.tcbDate),
    advisories: level.advisoryIDs,
  }));
  return {
    version: info.version,
    id: info.version === 2 ? 'SGX' : info.id,
    issueDate: info.issueDate,
    nextUpdate: info.nextUpdate,
    fmspc: info.fmspc,
    pceId: info.pceId,
    evaluation: info.tcbEvaluationDataNumber,
    levels: sortLevels(tcbLevels),
    ...(info.version === 3 && info.id === 'TDX' ? { tdxModule: info.tdxModule } : {}),
    tdxModuleIdentities:
      info.version === 3 && info.id === 'TDX'
        ? info.tdxModuleIdentities.map(({ tcbLevels, ...identity }) => ({
            ...identity,
            id: identity.id.toUpperCase(),
            levels: isvLevels(tcbLevels),
          }))
        : [],
  };
}

/** Descending by SGX components, PCE SVN, TDX components, as Intel's library does; equal levels would be ambiguous. */
function sortLevels(list: TcbLevel[]): TcbLevel[] {
  const key = ({ sgx, tdx = [], pceSvn }: TcbLevel) => [...sgx, pceSvn, ...tdx];
  const compare = (a: number[], b: number[]) => {
    const index = a.findIndex((value, i) => value !== b[i]);
    return index < 0 ? 0 : (b[index] as number) - (a[index] as number);
  };
  const sorted = list.map((level) => ({ level, key: key(level) })).sort((a, b) => compare(a.key, b.key));
  const twice = sorted.some((item, i) => i > 0 && compare(item.key, (sorted[i - 1] as typeof item).key) === 0);
  if (twice) throw usageError('ERR_COLLATERAL_MALFORMED', 'TCB info: tcbLevels: two levels are the same');
  return sorted.map(({ level }) => level);
}
