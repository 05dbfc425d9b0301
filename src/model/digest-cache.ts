import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readdir, realpath, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hex, sha256 } from '../core/bytes.ts';
import { writeFileAtomic } from '../core/files.ts';
import { type DigestOptions, digestFiles } from './digest-files.ts';
import { lastChange } from './identity.ts';
import { listModel, MAX_FILES, type ModelFile, modelDigest } from './model.ts';

/**
 * What the files of models were when they were last digested, so that sealing a model that was just built need not digest it again:
 * SHA-256 takes three times as long as the encryption. As git's index, it goes by device, inode, size, mtime and ctime. What is in it is
 * not proof: whoever opens the sealed model digests every byte, so a wrong entry costs a seal that does not open, and nothing else.
 *
 * $XDG_CACHE_HOME/atoma-tee/digests/SHA-256 of the model's path, one file for each model, 0600: a first line, a line
 * "DEVICE INODE SIZE MTIME CTIME SHA256" for each file, and a line with the SHA-256 of all that.
 */
export class DigestCache {
  readonly #path: string;
  readonly #digests: Map<string, Buffer>;

  private constructor(path: string, digests: Map<string, Buffer>) {
    this.#path = path;
    this.#digests = digests;
  }

  /** `directory` is the shared cache's. A cache that cannot be read, is damaged or somebody else's is an empty one. */
  static async open(directory: string, model: string): Promise<DigestCache> {
    const name = hex(sha256(Buffer.from(await realpath(model).catch(() => model))));
    const path = join(directory, 'digests', name);
    return new DigestCache(path, decode(await readOwn(path)));
  }

  /** 32 bytes, or undefined where the file was not digested as it is now. */
  digest({ identity }: Pick<ModelFile, 'identity'>): Buffer | undefined {
    return this.#digests.get(identity);
  }

  /**
   * Remembers the digests of a whole model, instead of what was known of it. `since` (ms since 1970) is when the files had not been
   * listed yet: one that had changed shortly before it could have changed again without a trace, and is left out. Where nothing can be
   * written, nothing is remembered.
   */
  async record(files: ModelFile[], digests: Uint8Array[], since: number): Promise<void> {
    const trusted = BigInt(since - RACY_MS) * 1_000_000n;
    const lines = files.flatMap(({ identity }, i) => {
      const digest = digests[i];
      return digest && lastChange(identity) <= trusted ? [`${identity} ${hex(digest)}\n`] : [];
    });
    const body = Buffer.from(`${FIRST_LINE}${lines.join('')}`);
    try {
      const directory = join(this.#path, '..');
      await mkdir(directory, { recursive: true, mode: 0o700 });
      await writeFileAtomic(this.#path, Buffer.concat([body, Buffer.from(`${hex(sha256(body))}\n`)]), 0o600);
      await prune(directory);
    } catch {
      // Digested again next time.
    }
  }
}

/** digestModel, remembered for the next seal. `directory` is the shared cache's. */
export async function digestAndRecord(
  directory: string,
  path: string,
  options: DigestOptions = {},
): Promise<{ digest: string; files: (ModelFile & { sha256: string })[] }> {
  const since = Date.now();
  const files = await listModel(path);
  const digests = await digestFiles(files, options);
  const cache = await DigestCache.open(directory, path);
  await cache.record(files, digests, since);
  const digested = files.map((file, i) => ({ ...file, sha256: hex(digests[i] ?? sha256()) }));
  return { digest: modelDigest(digested.map(({ path: name, sha256 }) => ({ name, sha256 }))), files: digested };
}

/** Coarser than the clock of any file system. */
const RACY_MS = 2000;
const MAX_MODELS = 64;
const FIRST_LINE = 'atoma-tee digests 1\n';
/** Five integers of at most 20 digits, one digest. */
const MAX_BYTES = MAX_FILES * 170 + 1024;
const LINE = /^(\d{1,20}(?: \d{1,20}){4}) ([0-9a-f]{64})$/;

function decode(bytes: Buffer | null): Map<string, Buffer> {
  const digests = new Map<string, Buffer>();
  if (bytes === null || bytes.length < 65) return digests;
  const body = bytes.subarray(0, -65);
  const sum = `${createHash('sha256').update(body).digest('hex')}\n`;
  if (
    bytes.toString('latin1', body.length) !== sum ||
    !body.subarray(0, FIRST_LINE.length).equals(Buffer.from(FIRST_LINE))
  )
    return digests;
  for (const line of body.toString('latin1', FIRST_LINE.length).split('\n')) {
    const [, identity, digest] = LINE.exec(line) ?? [];
    if (identity !== undefined && digest !== undefined) digests.set(identity, Buffer.from(digest, 'hex'));
    else if (line !== '') return new Map();
  }
  return digests;
}

/** A regular file that only we can have written, or null. */
async function readOwn(path: string): Promise<Buffer | null> {
  try {
    const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const found = await handle.stat();
      const ours = found.isFile() && found.uid === process.getuid?.() && (found.mode & 0o022) === 0;
      return ours && found.size <= MAX_BYTES ? await handle.readFile() : null;
    } finally {
      await handle.close();
    }
  } catch {
    return null;
  }
}

async function prune(directory: string): Promise<void> {
  // What else lies there is not ours: the directory may be a link to another.
  const names = (await readdir(directory)).filter((name) => /^[0-9a-f]{64}$/.test(name));
  if (names.length <= MAX_MODELS) return;
  const ages = await Promise.all(
    names.map(async (name) => ({ name, at: (await stat(join(directory, name)).catch(() => null))?.mtimeMs ?? 0 })),
  );
  ages.sort((a, b) => b.at - a.at);
  for (const { name } of ages.slice(MAX_MODELS)) await rm(join(directory, name), { force: true });
}
