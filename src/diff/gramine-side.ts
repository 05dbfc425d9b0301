import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { hex, sha256 } from '../core/bytes.ts';
import { AtomaError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { gramineNames, LIBPAL, rootUri } from '../gramine/image-manifest.ts';
import {
  ATTRIBUTE,
  measureEnclave,
  parseManifest,
  parseSigstruct,
  type Sigstruct,
  sgxSettings,
  signerOf,
} from '../gramine/index.ts';
import { MAX_MANIFEST, type ManifestTable } from '../gramine/toml.ts';
import type { GramineImage } from '../manifest/measurements.ts';
import { measuredNodes, type Node } from './nodes.ts';
import type { PartSource } from './part-source.ts';
import type { Registers } from './sides.ts';
import { trustedNodes } from './trusted.ts';
import { bytesView } from './view.ts';

/** An area of an enclave, and where it lies. */
export interface AreaSource extends PartSource {
  /** "0x10000, REG:RW-". */
  place: string;
}

/** A Gramine image, or what is known of one. */
export interface GramineSide {
  registers: Registers;
  /** By name, in the order in which they are measured; without a libpal.so nobody knows them. */
  areas?: Map<string, AreaSource>;
  /** The signed manifest. */
  manifest?: { bytes: Buffer; table: ManifestTable };
  /** Of the manifest as a file, where a list says so and the file is not there. */
  listed?: { size: number; sha256: string };
  /** Trusted files by URI. */
  trusted?: Node[];
  /** Of a URI: the image's root, which is stripped where packages and locks are asked. */
  root?: string;
  sigstruct?: Sigstruct;
  debug?: boolean;
  notes: string[];
}

const MAX_LIBRARY = 64 << 20;

/**
 * Reads a signed manifest, its signature and its libpal.so, where they lie beside it, and measures. Throws `ERR_GRAMINE_*`,
 * `ERR_ELF_*`, `ERR_SIGSTRUCT_MALFORMED` (exit 2).
 */
export async function openGramine(
  path: string,
  libpal: string | undefined,
  onProgress?: OnProgress,
): Promise<GramineSide> {
  const bytes = await readSmallFile(path, 'Gramine manifest', MAX_MANIFEST);
  const table = parseManifest(bytes.toString('utf8'), path);
  const name = basename(path).replace(/\.manifest(\.sgx)?$/, '');
  const beside = (file: string) => join(dirname(path), file);
  const names = gramineNames(name);
  const [ownPal, ownSig] = [beside(join(names.directory, LIBPAL)), beside(names.sigstruct)];
  const pal = libpal ?? (existsSync(ownPal) ? ownPal : undefined);
  const sig = existsSync(ownSig)
    ? parseSigstruct(await readSmallFile(ownSig, 'enclave signature', 1 << 16))
    : undefined;
  const notes: string[] = [];
  const measured = pal === undefined ? undefined : await measure(bytes, table, pal, notes, onProgress);
  if (pal === undefined)
    notes.push('no libpal.so: MRENCLAVE is what the signature says, and areas are not compared (--libpal)');
  const signed = sig && hex(sig.mrenclave);
  if (measured && signed !== undefined && measured.mrenclave !== signed) {
    notes.push(`its signature is over MRENCLAVE ${signed}, which is not that of this manifest and libpal.so`);
  }
  return {
    registers: {
      mrenclave: measured?.mrenclave ?? signed ?? null,
      mrsigner: sig ? signerOf(sig.modulus) : null,
      isvprodid: setting(sig?.isvprodid ?? (table.sgx as ManifestTable | undefined)?.isvprodid),
      isvsvn: setting(sig?.isvsvn ?? (table.sgx as ManifestTable | undefined)?.isvsvn),
    },
    ...(measured ? { areas: measured.areas } : {}),
    manifest: { bytes, table },
    trusted: trustedNodes(table, dirname(path)),
    root: `${rootUri(name)}/`,
    ...(sig ? { sigstruct: sig } : {}),
    debug: sig ? (sig.flags & ATTRIBUTE.debug) !== 0n : (table.sgx as ManifestTable | undefined)?.debug === true,
    notes,
  };
}

const setting = (value: unknown): string | null => (value === undefined ? null : String(value));

/** An incomplete manifest has no measurement; it can be compared all the same. */
async function measure(bytes: Buffer, table: ManifestTable, pal: string, notes: string[], onProgress?: OnProgress) {
  const libpal = await readSmallFile(pal, 'Gramine library', MAX_LIBRARY);
  try {
    const { mrenclave, areas } = await measureEnclave(bytes, libpal, sgxSettings(table), { onProgress });
    return { mrenclave, areas: new Map(areas.map((area) => [area.name, source(area, bytes, libpal)])) };
  } catch (error) {
    if (!(error instanceof AtomaError)) throw error;
    notes.push(`not measured: ${error.message}`);
    return undefined;
  }
}

type Area = { name: string; address: bigint; size: bigint; flags: string; digest: string };

function source({ name, address, size, flags, digest }: Area, manifest: Buffer, libpal: Buffer): AreaSource {
  const bytes = name === 'manifest' ? manifest : name === 'pal' ? libpal : undefined;
  const place = `${size} bytes at 0x${address.toString(16)}, ${flags}`;
  return { name, size: Number(size), digest, place, ...(bytes ? { view: bytesView(bytes) } : {}) };
}

/** What measurements.json tells of an image. */
export function listedGramine({ measurement, parts, files, file, size, sha256 }: GramineImage): GramineSide {
  const { mrenclave, mrsigner, isvprodid, isvsvn } = measurement;
  const root = `${rootUri(file.replace(/\.manifest\.sgx$/, ''))}/`;
  return {
    registers: { mrenclave, mrsigner, isvprodid: String(isvprodid), isvsvn: String(isvsvn) },
    areas: new Map(
      parts.map(({ name, address, size, flags, sha256 }) => [
        name,
        { name, size, digest: sha256, place: `${size} bytes at ${address}, ${flags}` },
      ]),
    ),
    // Nothing but contents is measured of a trusted file.
    trusted: measuredNodes(files)
      .filter(({ type }) => type === 'file' || type === 'link')
      .map((node) => trustedOf(node, root, files)),
    root,
    listed: { size, sha256 },
    notes: [],
  };
}

function trustedOf({ path, type, sha256: own, target }: Node, root: string, files: GramineImage['files']): Node {
  const digest = type === 'link' ? files.find((file) => file.path === target)?.sha256 : own;
  return { path: `${root}${path}`, type: 'file', size: 0, ...(digest === undefined ? {} : { sha256: digest }) };
}

/** A manifest by its own digest: that of its area nobody knows without a libpal.so. */
export const manifestSource = ({ manifest, listed }: GramineSide): PartSource | null => {
  if (!manifest) return listed ? { name: 'manifest', size: listed.size, digest: listed.sha256 } : null;
  const { bytes } = manifest;
  return { name: 'manifest', size: bytes.length, digest: hex(sha256(bytes)), view: bytesView(bytes) };
};
