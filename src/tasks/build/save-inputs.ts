import { existsSync, readFileSync } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { join, relative, resolve, sep } from 'node:path';
import { hex, sha256 } from '../../core/bytes.ts';
import { usageError } from '../../core/errors.ts';
import { readSmallFile } from '../../core/files.ts';
import { stagingFor } from '../../core/staging.ts';
import { provideGramine } from '../../gramine/runtime-files.ts';
import type { Digest } from '../../image/cache.ts';
import { entryDigest, fetchArchive } from '../../image/fetch.ts';
import { offlineMissing } from '../../image/inputs.ts';
import { ALGORITHMS, ARCHIVE_FILES } from '../../image/inputs-archive.ts';
import { InputsArchiveWriter } from '../../image/inputs-archive-write.ts';
import { entryName, type FileEntry, type KernelEntry, lockEntries, type OciEntry } from '../../image/lock-file.ts';
import { filePart } from '../../nitro/index.ts';
import { readEntry } from '../../oci/flatten.ts';
import type { FlatImage } from '../../oci/flatten-types.ts';
import { flattenDirectory, listFile, openPinned } from '../../oci/index.ts';
import { CONFIG_FILE } from '../../project/load.ts';
import { publish } from '../../project/outputs.ts';
import type { ImageInputs } from './content.ts';
import { MAX_KERNEL, readPinned } from './kernel.ts';

/**
 * Writes everything that a build of these targets takes, but for the model and the toolkit, into the directory `out`
 * (image/inputs-archive.ts): whole or not at all. `lock`: the lock's bytes.
 *
 * Throws `ERR_INPUTS_OUTSIDE` (exit 2) for a base directory that nobody else would have, and what fetching and reading throw.
 */
export async function saveInputs(out: string, inputs: ImageInputs, lock: Buffer): Promise<void> {
  requireNoProject(resolve(out), lock);
  const staging = await stagingFor(resolve(out));
  try {
    const writer = await InputsArchiveWriter.create(staging.path);
    await savePackages(writer, inputs);
    for (const pin of inputs.lock.oci) await saveContainer(writer, pin, inputs);
    for (const pin of inputs.lock.file) await saveFile(writer, pin, inputs);
    if (inputs.lock.kernel) await saveKernel(writer, inputs.lock.kernel, inputs);
    await saveGramine(writer, inputs);
    await saveProject(writer, inputs);
    await writer.finish(lock);
    await publish(staging, resolve(out), [
      { name: ARCHIVE_FILES.blobs, directory: [...ALGORITHMS] },
      { name: ARCHIVE_FILES.lock },
      { name: ARCHIVE_FILES.index },
    ]);
  } finally {
    await staging.remove();
  }
}

/** The lock of some project is not an old archive's. */
function requireNoProject(out: string, lock: Buffer): void {
  const there = join(out, ARCHIVE_FILES.lock);
  if (!existsSync(there) || existsSync(join(out, ARCHIVE_FILES.index)) || readFileSync(there).equals(lock)) return;
  throw usageError(
    'ERR_OUTPUT_KIND',
    `expected an old archive of inputs or a new directory, found another lock in ${out}`,
  );
}

const bySha256 = (digits: string): Digest => ({ algorithm: 'sha256', hex: digits });

async function savePackages(writer: InputsArchiveWriter, inputs: ImageInputs): Promise<void> {
  const { project, cache, offline, onProgress } = inputs;
  for (const entry of lockEntries(inputs.lock)) {
    const digest = entryDigest(entry);
    let path = await cache.archive(digest);
    if (path === null && offline) throw offlineMissing(entry);
    path ??= await fetchArchive(entry, cache, { dir: project.dir, onProgress });
    await writer.add(entryName(entry), digest, 'archive', (await filePart(path)).chunks());
  }
}

/** What leads from the digest to the layers, and the layers as the build has unpacked them: how they were compressed says nothing. */
async function saveContainer(writer: InputsArchiveWriter, pin: OciEntry, inputs: ImageInputs): Promise<void> {
  const { project, cache, offline, onProgress } = inputs;
  const image = await openPinned(pin, cache, { dir: project.dir, offline, onProgress });
  if (image === null) return;
  try {
    for (const bytes of image.documents) {
      const digest = image.documents.length > 1 && bytes === image.documents[0] ? pin.digest : undefined;
      const [algorithm, digits] = (digest ?? `sha256:${hex(sha256(bytes))}`).split(':') as [
        Digest['algorithm'],
        string,
      ];
      await writer.add(`${pin.reference} (document)`, { algorithm, hex: digits }, 'archive', [bytes]);
    }
    for (const { diffId } of image.layers) {
      const digest = bySha256(diffId.slice('sha256:'.length));
      const layer = await filePart(cache.layerPath(digest.hex));
      await writer.add(`${pin.reference} (layer)`, digest, 'layer', layer.chunks());
    }
  } finally {
    await image.close();
  }
}

async function saveFile(writer: InputsArchiveWriter, pin: FileEntry, { project, cache }: ImageInputs): Promise<void> {
  await writer.add(pin.path, bySha256(pin.sha256), 'file', [await readPinned(project.dir, pin, MAX_KERNEL, cache)]);
}

async function saveKernel(writer: InputsArchiveWriter, pin: KernelEntry, { cache }: ImageInputs): Promise<void> {
  const { openSmallKernel } = await import('../../kernel/index.ts');
  const found = await openSmallKernel(pin.sha256, cache);
  // The build has just used it.
  if (found === null) throw new TypeError('the small kernel is gone from the cache');
  await writer.add(`linux ${pin.version}, small`, bySha256(pin.sha256), 'file', (await filePart(found.path)).chunks());
}

async function saveGramine(writer: InputsArchiveWriter, { project, lock, cache }: ImageInputs): Promise<void> {
  if (lock.gramine === undefined) return;
  const libraries = await provideGramine(lock.gramine, { dir: project.dir, cache });
  for (const name of ['libpal', 'libsysdb'] as const) {
    await writer.add(`${name}.so of Gramine`, bySha256(lock.gramine[name].sha256), 'file', [libraries[name]]);
  }
}

/** enclave.toml and what it names of the project that goes into an image: includes and a base directory. No key, no model. */
async function saveProject(writer: InputsArchiveWriter, inputs: ImageInputs): Promise<void> {
  const { project } = inputs;
  const config = await readSmallFile(resolve(project.dir, CONFIG_FILE), 'project file');
  await writer.addFile(CONFIG_FILE, false, hex(sha256(config)), [config]);
  const base = project.config.base?.image;
  const sources = [
    ...(project.config.runtime.include ?? []).map(({ from }) => from),
    ...(base?.startsWith('dir:') ? [base.slice('dir:'.length)] : []),
  ].map((from) => inside(project.dir, from));
  // One may lie inside another.
  const known = new Set<string>([CONFIG_FILE]);
  for (const path of sources.sort()) {
    const absolute = resolve(project.dir, path);
    const isDirectory = (await lstat(absolute)).isDirectory();
    const flat = isDirectory ? await flattenDirectory(absolute) : await listFile(absolute);
    const parent = isDirectory ? path : path.split('/').slice(0, -1).join('/');
    if (isDirectory && !known.has(path)) writer.addDirectory(path);
    if (isDirectory) known.add(path);
    await saveTree(writer, flat, parent, known, inputs);
  }
}

async function saveTree(
  writer: InputsArchiveWriter,
  flat: FlatImage,
  below: string,
  known: Set<string>,
  { cache }: ImageInputs,
): Promise<void> {
  for (const entry of flat.entries) {
    const path = below === '' ? entry.path : `${below}/${entry.path}`;
    if (known.has(path)) continue;
    known.add(path);
    if (entry.type === 'dir') writer.addDirectory(path);
    else if (entry.type === 'symlink') writer.addLink(path, entry.target ?? '');
    else await writer.addFile(path, (entry.mode & 0o100) !== 0, entry.sha256 ?? '', readEntry(flat, cache, entry));
  }
}

/** '/'-separated, from the project's directory. Throws `ERR_INPUTS_OUTSIDE` (exit 2). */
function inside(dir: string, from: string): string {
  const path = relative(dir, resolve(dir, from));
  if (path !== '' && path.split(sep)[0] !== '..') return path.split(sep).join('/');
  throw usageError(
    'ERR_INPUTS_OUTSIDE',
    `expected "${from}" to lie in a directory of the project: an archive of inputs holds nothing else`,
    {
      hint: 'move it into a directory of the project, or use a docker-archive: or oci-layout: of it',
    },
  );
}
