import * as z from 'zod';
import { isDigest } from './digest.ts';
import { malformed, readJson, unsupported } from './json.ts';

/** What of an image's configuration matters to whoever runs it. */
export interface ImageConfig {
  entrypoint: string[] | null;
  cmd: string[] | null;
  /** "NAME=value", in order. */
  env: string[];
  /** "" where the image says nothing. */
  workingDir: string;
  /** USER as written: "", "name", "uid", either with ":group". */
  user: string;
  architecture: string;
  os: string;
  /** The parsed document, for whoever needs more (ExposedPorts, Labels). */
  raw: unknown;
}

export const MAX_CONFIG = 8 << 20;
/** Docker and containerd stop at 128 or so. */
export const MAX_LAYERS = 512;
const MAX_WORDS = 65_536;

// No argument, variable or path of a process can hold a NUL.
const text = z.string().refine((s) => !s.includes('\0'), 'a NUL character');
const words = z.array(text).max(MAX_WORDS);
// Docker reads one string as a list of it; an absent list and null are the same.
const command = z.union([words, text.transform((word) => [word])]).nullish();

// OCI image specification 1.1, "Image Configuration"; Docker's has the same fields.
const schema = z.object({
  architecture: z.string(),
  os: z.string(),
  config: z
    .object({
      Entrypoint: command,
      Cmd: command,
      Env: words.nullish(),
      WorkingDir: text.nullish(),
      User: text.nullish(),
    })
    .nullish(),
  rootfs: z.object({ type: z.literal('layers'), diff_ids: z.array(z.string()).max(MAX_LAYERS) }),
});

/**
 * Reads an image's configuration. An empty list is as good as none (`null`), as in Docker.
 * Throws `ERR_OCI_MALFORMED`, `ERR_OCI_UNSUPPORTED` (exit 2).
 */
export function parseConfig(bytes: Uint8Array, what: string): { config: ImageConfig; diffIds: string[] } {
  let raw: unknown;
  const keeping = z.unknown().transform((document) => {
    raw = document;
    return document;
  });
  const { architecture, os, config, rootfs } = readJson(bytes, keeping.pipe(schema), what);
  for (const id of rootfs.diff_ids) {
    if (!isDigest(id)) throw malformed(what, 'rootfs.diff_ids: not a digest');
    if (!id.startsWith('sha256:')) throw unsupported(what, 'names its layers by another digest than SHA-256');
  }
  const list = (value: string[] | null | undefined) => (value?.length ? value : null);
  return {
    config: {
      entrypoint: list(config?.Entrypoint),
      cmd: list(config?.Cmd),
      env: config?.Env ?? [],
      workingDir: config?.WorkingDir ?? '',
      user: config?.User ?? '',
      architecture,
      os,
      raw,
    },
    diffIds: rootfs.diff_ids,
  };
}
