import type { Extent, Piece } from './index-part.ts';

// Where files go in a sealed model.

/** Bytes of plaintext in a part. */
const PART = 2 ** 30;
/** From this size a file has parts of its own, so that a change elsewhere leaves them as they are. */
const LARGE = 64 * 2 ** 20;

export interface Plan {
  /** Plaintext length of each part. */
  parts: number[];
  /** By file. */
  extents: Extent[][];
  /** In payload order. */
  pieces: Piece[];
}

/** Small files are packed together in order, large ones get parts of their own; an empty file has no extent. */
export function planParts(sizes: number[], limits = { part: PART, large: LARGE }): Plan {
  const plan: Plan = { parts: [], extents: sizes.map(() => []), pieces: [] };
  const append = (file: number, fileOffset: number, length: number) => {
    const part = plan.parts.length - 1;
    const offset = plan.parts[part] ?? 0;
    plan.parts[part] = offset + length;
    plan.extents[file]?.push({ part, offset, length });
    plan.pieces.push({ part, offset, length, file, fileOffset });
  };
  for (const [file, size] of sizes.entries()) {
    if (size === 0 || size >= limits.large) continue;
    if ((plan.parts.at(-1) ?? limits.part) + size > limits.part) plan.parts.push(0);
    append(file, 0, size);
  }
  for (const [file, size] of sizes.entries()) {
    if (size < limits.large) continue;
    for (let at = 0; at < size; at += limits.part) {
      plan.parts.push(0);
      append(file, at, Math.min(limits.part, size - at));
    }
  }
  return plan;
}
