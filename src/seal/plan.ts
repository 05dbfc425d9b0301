import type { Extent, Piece } from './index-part.ts';

// Where files go in a sealed model.

export interface Limits {
  /** Bytes of plaintext in a part. */
  part: number;
  /** From this size a file has parts of its own, so that a change elsewhere leaves them as they are. */
  large: number;
}
export const LIMITS: Limits = { part: 2 ** 30, large: 64 * 2 ** 20 };

export interface Plan {
  /** Plaintext length of each part. */
  parts: number[];
  /** By file. */
  extents: Extent[][];
  /** In payload order. */
  pieces: Piece[];
  /** By part: which part of an older sealed model it is (reuse.ts), or null if it is new. */
  old: (number | null)[];
}

/** Puts files into parts, one after the other. */
export class Planner {
  readonly plan: Plan;
  readonly #sizes: number[];
  readonly #limits: Limits;

  constructor(sizes: number[], limits: Limits) {
    this.plan = { parts: [], extents: sizes.map(() => []), pieces: [], old: [] };
    this.#sizes = sizes;
    this.#limits = limits;
  }

  /** A new part, or one of the older sealed model. */
  begin(old: number | null = null): void {
    this.plan.parts.push(0);
    this.plan.old.push(old);
  }

  /** `length` bytes of a file into the last part. */
  append(file: number, fileOffset: number, length: number): void {
    const part = this.plan.parts.length - 1;
    const offset = this.plan.parts[part] ?? 0;
    this.plan.parts[part] = offset + length;
    this.plan.extents[file]?.push({ part, offset, length });
    this.plan.pieces.push({ part, offset, length, file, fileOffset });
  }

  /** Small files into parts of their own, in order; empty ones have no extent. */
  pack(files: number[]): void {
    let fresh = true;
    for (const file of files) {
      const size = this.#sizes[file] ?? 0;
      if (size === 0) continue;
      if (fresh || (this.plan.parts.at(-1) ?? 0) + size > this.#limits.part) this.begin();
      fresh = false;
      this.append(file, 0, size);
    }
  }

  /** A large file, from a position on, into parts of its own. */
  spread(file: number, from = 0): void {
    const size = this.#sizes[file] ?? 0;
    for (let at = from; at < size; at += this.#limits.part) {
      this.begin();
      this.append(file, at, Math.min(this.#limits.part, size - at));
    }
  }

  isLarge = (file: number): boolean => (this.#sizes[file] ?? 0) >= this.#limits.large;
}

/** Small files are packed together in order, large ones get parts of their own; an empty file has no extent. */
export function planParts(sizes: number[], limits = LIMITS): Plan {
  const planner = new Planner(sizes, limits);
  const files = [...sizes.keys()];
  planner.pack(files.filter((file) => !planner.isLarge(file)));
  for (const file of files) if (planner.isLarge(file)) planner.spread(file);
  return planner.plan;
}
