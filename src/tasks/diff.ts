import type { OnProgress } from '../core/progress.ts';
import { type DiffReport, diffSides, loadSide, type Side } from '../diff/index.ts';

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
  // Side by side: an image is hashed in two threads, and one of them has less to do.
  const loaded = await Promise.allSettled([
    loadSide(a, { libpal: libpal[0], onProgress }),
    loadSide(b, { libpal: libpal[1] ?? libpal[0] }),
  ]);
  try {
    const [x, y] = loaded.map((side) => {
      if (side.status === 'rejected') throw side.reason;
      return side.value;
    });
    onProgress?.({ phase: 'comparing', done: 0 });
    return await diffSides(x as Side, y as Side, { items });
  } finally {
    for (const side of loaded) if (side.status === 'fulfilled') side.value.nitro?.close?.();
  }
}
