import * as z from 'zod';
import { usageError } from '../../core/errors.ts';
import { bytes, date, type IsvLevel, isvLevels, objectOf, svn16 } from './json.ts';

/** Which report a quoting enclave must have (PCS API, appendix B, version 2). Parsed, not verified; hex is lower case. */
export interface QeIdentity {
  id: 'QE' | 'TD_QE';
  issueDate: Date;
  nextUpdate: Date;
  evaluation: number;
  miscSelect: string;
  miscSelectMask: string;
  attributes: string;
  attributesMask: string;
  mrsigner: string;
  isvProdId: number;
  /** Highest SVN first. */
  levels: IsvLevel<QeStatus>[];
}

const QE_STATUSES = [
  'UpToDate',
  'ConfigurationNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
] as const;
export type QeStatus = (typeof QE_STATUSES)[number];

const schema = z.object({
  id: z.enum(['QE', 'TD_QE'], 'expected "QE" or "TD_QE"'),
  version: z.literal(2),
  issueDate: date,
  nextUpdate: date,
  tcbEvaluationDataNumber: z.number().int().nonnegative().max(0xffffffff),
  miscselect: bytes(4),
  miscselectMask: bytes(4),
  attributes: bytes(16),
  attributesMask: bytes(16),
  mrsigner: bytes(32),
  isvprodid: svn16,
  tcbLevels: z
    .array(
      z.object({
        tcb: z.object({ isvsvn: svn16 }),
        tcbDate: date,
        tcbStatus: z.enum(QE_STATUSES),
        advisoryIDs: z.array(z.string().max(64)).max(1024).default([]),
      }),
    )
    .min(1)
    .max(256),
});

/** Throws `ERR_COLLATERAL_MALFORMED` (exit 2) with the place of the first problem. Verifies nothing. */
export function parseQeIdentity(body: Uint8Array): QeIdentity {
  const result = schema.safeParse(objectOf(body, 'QE identity'));
  if (!result.success) {
    const [issue] = result.error.issues;
    const place = issue?.path.join('.') || 'top level';
    throw usageError('ERR_COLLATERAL_MALFORMED', `QE identity: ${place}: ${issue?.message ?? 'malformed'}`);
  }
  const { tcbLevels, ...identity } = result.data;
  return {
    id: identity.id,
    issueDate: identity.issueDate,
    nextUpdate: identity.nextUpdate,
    evaluation: identity.tcbEvaluationDataNumber,
    miscSelect: identity.miscselect,
    miscSelectMask: identity.miscselectMask,
    attributes: identity.attributes,
    attributesMask: identity.attributesMask,
    mrsigner: identity.mrsigner,
    isvProdId: identity.isvprodid,
    levels: isvLevels(tcbLevels),
  };
}
