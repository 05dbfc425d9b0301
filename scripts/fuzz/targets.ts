import { enclaveTargets } from './enclave-targets.ts';
import { endorsementTargets } from './endorsement-targets.ts';
import { evidenceTargets } from './evidence-targets.ts';
import { formatTargets } from './format-targets.ts';
import { imageTargets } from './image-targets.ts';
import { protectedFileTargets } from './protected-file-targets.ts';
import { receiptTargets } from './receipt-targets.ts';
import { signatureTargets } from './signature-targets.ts';
import type { Target } from './target.ts';
import { weightsTargets } from './weights-targets.ts';

/** A target for each parser of bytes that somebody else made. */
export const TARGETS: Target[] = [
  ...evidenceTargets,
  ...endorsementTargets,
  ...receiptTargets,
  ...formatTargets,
  ...imageTargets,
  ...protectedFileTargets,
  ...enclaveTargets,
  ...signatureTargets,
  ...weightsTargets,
];
