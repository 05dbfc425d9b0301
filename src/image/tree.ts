import * as z from 'zod';
import { hex, sha256 } from '../core/bytes.ts';
import { PARTS } from './lock-file.ts';

const file = z.strictObject({
  part: z.enum(PARTS),
  path: z.string().min(1),
  /** Permission bits in octal, "0755". */
  mode: z.string().regex(/^0[0-7]{3}$/),
  size: z.int().min(0),
  /** Hex, of the content. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

/** One file that a package contributes to an image. Only regular files are kept; links are selected by what they name. */
export type TreeFile = z.infer<typeof file>;

/**
 * The bytes whose SHA-256 an entry of the lock pins as `tree`: one JSON object per line, keys in the schema's order,
 * sorted by part and path. So the kept files are pinned by themselves, not only through the package that they came
 * in, and an unpacked copy in the cache is as good as the package.
 */
export function encodeTree(files: TreeFile[]): Buffer {
  const line = ({ part, path, mode, size, sha256 }: TreeFile) => JSON.stringify({ part, path, mode, size, sha256 });
  const sorted = [...files].sort((a, b) =>
    a.part === b.part
      ? Buffer.compare(Buffer.from(a.path), Buffer.from(b.path))
      : PARTS.indexOf(a.part) - PARTS.indexOf(b.part),
  );
  return Buffer.from(sorted.map((f) => `${line(f)}\n`).join(''));
}

export const treeDigest = (files: TreeFile[]): string => hex(sha256(encodeTree(files)));

/** Reads encodeTree's bytes. Null if they are anything else. */
export function decodeTree(bytes: Uint8Array): TreeFile[] | null {
  try {
    const lines = Buffer.from(bytes).toString('utf8').split('\n').slice(0, -1);
    return lines.map((line) => file.parse(JSON.parse(line)));
  } catch {
    return null;
  }
}
