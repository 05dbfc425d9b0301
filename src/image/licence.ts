import { writeFile } from 'node:fs/promises';
import { hex, sha256 } from '../core/bytes.ts';
import type { Cache } from './cache.ts';

/** The file of a package that states its licence, as it is; or the link in place of it, which names another package's. */
export type LicenceDocument = { path: string; bytes: Buffer } | { path: string; link: string };

/** The largest copyright files of Debian have some hundred KiB. A larger one is not read: the package then states nothing. */
const MAX_DOCUMENT = 1 << 20;
const NOTHING = 'null\n';

/**
 * Watches a package go by and keeps the file that states its licence: package.json (npm), or usr/share/doc/NAME/copyright (Debian
 * Policy 12.5, which lets usr/share/doc/NAME be a link to another package's instead).
 */
export class LicenceWatch {
  readonly #directory: string;
  readonly #file: string;
  document: LicenceDocument | null = null;

  constructor(kind: 'npm' | 'deb', what: string) {
    this.#directory = kind === 'npm' ? '' : `usr/share/doc/${what.slice(0, what.lastIndexOf('@'))}`;
    this.#file = kind === 'npm' ? 'package.json' : `${this.#directory}/copyright`;
  }

  /** Whether to hand the bytes of this entry to `take`. `path`: inside the package. */
  wants(path: string, type: string | null | undefined, size = 0, link: string | null = null): boolean {
    if (type === 'symlink' && path === this.#directory && link !== null) this.document = { path, link };
    return type === 'file' && path === this.#file && size <= MAX_DOCUMENT;
  }

  take(path: string, bytes: Buffer): void {
    this.document = { path, bytes };
  }
}

/** Keeps a document beside its package in the cache, after the SHA-256 of what is kept. */
export async function storeLicence(cache: Cache, place: string, document: LicenceDocument | null): Promise<void> {
  const body =
    document === null
      ? Buffer.from(NOTHING)
      : 'link' in document
        ? Buffer.from(`${JSON.stringify({ path: document.path, link: document.link })}\n`)
        : Buffer.concat([Buffer.from(`${JSON.stringify({ path: document.path })}\n`), document.bytes]);
  const temporary = cache.temporary();
  await writeFile(temporary, Buffer.concat([Buffer.from(`${hex(sha256(body))}\n`), body]));
  await cache.adopt(temporary, place);
}

/** Reads what `storeLicence` wrote; undefined where it is not that any more. */
export function decodeLicence(bytes: Buffer): LicenceDocument | null | undefined {
  try {
    const body = bytes.subarray(65);
    if (bytes.toString('latin1', 0, 65) !== `${hex(sha256(body))}\n`) return undefined;
    const end = body.indexOf(0x0a);
    const head = JSON.parse(body.toString('utf8', 0, end)) as { path: string; link?: string } | null;
    if (head === null) return null;
    return head.link === undefined ? { path: head.path, bytes: body.subarray(end + 1) } : (head as LicenceDocument);
  } catch {
    return undefined;
  }
}
