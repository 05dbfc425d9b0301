import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { execa } from 'execa';
import { hex, sha256 } from '../core/bytes.ts';
import { missingError, negativeError } from '../core/errors.ts';
import { parseStanzas } from './apt-sources.ts';
import type { Cache } from './cache.ts';
import { compareDebVersions } from './deb-version.ts';
import { httpRequest } from './http.ts';
import { findMirrors } from './mirrors.ts';
import { globPattern } from './select.ts';
import { unxz } from './xz.ts';

/** A binary package as the archive's index has it. */
export interface DebPackage {
  name: string;
  version: string;
  path: string;
  size: number;
  sha256: string;
}

export interface DebIndex {
  text: string;
  /** The index hangs on a signature of the Debian archive that was checked here. */
  authenticated: boolean;
}

export interface IndexOptions {
  signal?: AbortSignal | undefined;
  /** Keys that may have signed. Default: Debian's, where its package puts them. */
  keyring?: string | undefined;
}

const INDEX = 'main/binary-amd64/Packages.xz';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const MAX_RELEASE = 4 << 20;
const MAX_INDEX = 64 << 20;
const MAX_TEXT = 512 << 20;

/**
 * Fetches the package index of a suite and compares it with the suite's InRelease, whose signature is checked by gpgv
 * where that and Debian's keyring are installed.
 * Throws `ERR_MIRROR_SIGNATURE`, `ERR_MIRROR_INDEX` (exit 3), `ERR_MIRROR_SUITE`, `ERR_INPUT_FETCH` (exit 5).
 */
export async function fetchDebIndex(suite: string, cache: Cache, options: IndexOptions = {}): Promise<DebIndex> {
  const { signal, keyring = KEYRING } = options;
  for (const mirror of await findMirrors()) {
    const inRelease = await get(`${mirror}/dists/${suite}/InRelease`, MAX_RELEASE, signal);
    if (inRelease === null) continue;
    const signed = await checkSignature(inRelease, suite, cache, keyring);
    const release = (signed ?? inRelease).toString('utf8');
    const line = new RegExp(`^ ([0-9a-f]{64}) +([0-9]+) +${INDEX.replaceAll('.', '\\.')}$`, 'm').exec(release);
    const packed = await get(`${mirror}/dists/${suite}/${INDEX}`, MAX_INDEX, signal);
    if (!line || packed === null || hex(sha256(packed)) !== line[1]) {
      throw negativeError('ERR_MIRROR_INDEX', `the package index of ${suite} is not the one that its InRelease names`, {
        hint: 'the mirror may be in the middle of an update: try again in a while',
      });
    }
    const text = await collect(await unxz(Readable.from([packed])), MAX_TEXT);
    return { text: text?.toString('utf8') ?? '', authenticated: signed !== null };
  }
  throw missingError('ERR_MIRROR_SUITE', `no mirror has the suite ${suite}`, {
    hint: 'set ATOMA_TEE_DEBIAN_MIRROR to a mirror that has it',
  });
}

/** The newest package whose name matches ("*" stands for anything), or null. */
export function newestPackage({ text }: DebIndex, names: string): DebPackage | null {
  const pattern = globPattern(names);
  let newest: DebPackage | null = null;
  for (const block of text.split('\n\n')) {
    const name = /^Package: (\S+)$/m.exec(block.slice(0, 200))?.[1];
    if (name === undefined || !pattern.test(name)) continue;
    for (const fields of parseStanzas(block)) {
      const [version, path, size, digest] = ['version', 'filename', 'size', 'sha256'].map((f) => fields.get(f));
      if (!version || !path || !size || !digest) continue;
      if (newest === null || compareDebVersions(version, newest.version) > 0) {
        newest = { name, version, path, size: Number(size), sha256: digest };
      }
    }
  }
  return newest;
}

/** What was signed; null where it cannot be checked here. */
async function checkSignature(inRelease: Buffer, suite: string, cache: Cache, keyring: string): Promise<Buffer | null> {
  if (!existsSync(keyring)) return null;
  const path = cache.temporary();
  await writeFile(path, inRelease);
  try {
    const args = ['--keyring', keyring, '--output', '-', path];
    const result = await execa('gpgv', args, { encoding: 'buffer', reject: false, stdin: 'ignore', timeout: 30_000 });
    if (result.code === 'ENOENT') return null;
    if (result.exitCode === 0) return Buffer.from(result.stdout);
    throw negativeError('ERR_MIRROR_SIGNATURE', `the InRelease of ${suite} is not signed by Debian's archive keys`, {
      hint: 'use another mirror',
    });
  } finally {
    await rm(path, { force: true });
  }
}

async function get(url: string, max: number, signal: AbortSignal | undefined): Promise<Buffer | null> {
  const result = await httpRequest(url, signal);
  return result.status === 'gone' ? null : collect(result.body, max);
}

async function collect(source: AsyncIterable<Uint8Array>, max: number): Promise<Buffer | null> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of source) {
    size += chunk.length;
    if (size > max) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
