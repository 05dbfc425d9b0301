import type { Digest } from '../image/cache.ts';

/** A digest of the OCI image specification, in text: "sha256:HEX". */
export const isDigest = (text: string): boolean => parseDigest(text) !== null;

/** Reads "sha256:" or "sha512:" and lower-case hex of the right length; null for anything else, a path in disguise included. */
export function parseDigest(text: string): Digest | null {
  const [, algorithm, hex] = /^(sha256|sha512):([0-9a-f]+)$/.exec(text) ?? [];
  if (hex === undefined || hex.length !== (algorithm === 'sha256' ? 64 : 128)) return null;
  return { algorithm: algorithm as Digest['algorithm'], hex };
}
