import type { OnProgress } from '../core/progress.ts';
import { type DiffReport, diffSides, loadSide } from '../diff/index.ts';

export interface DiffOptions {
  /** Paths: images, builds, or JSON with a measurement. */
  a: string;
  b: string;
  /** libpal.so of signed Gramine manifests: one for both, or one for each. */
  libpal?: string[] | undefined;
  /** Differing items that are told per measured part; the rest is counted. Default 20. */
  items?: number | undefined;
  onProgress?: OnProgress | undefined;
}

const ITEMS = 20;

/**
 * `atoma-tee diff`: why two builds have different measurements. Nothing is verified: what signatures say is `verify`'s affair.
 * Throws `ERR_DIFF_INPUT`, `ERR_DIFF_TARGETS` and the parsers' errors (exit 2).
 */
export async function diff({ a, b, libpal = [], items = ITEMS, onProgress }: DiffOptions): Promise<DiffReport> {
  const x = await loadSide(a, { libpal: libpal[0], onProgress });
  try {
    const y = await loadSide(b, { libpal: libpal[1] ?? libpal[0], onProgress });
    try {
      onProgress?.({ phase: 'comparing', done: 0 });
      return await diffSides(x, y, { items });
    } finally {
      y.nitro?.close?.();
    }
  } finally {
    x.nitro?.close?.();
  }
}
