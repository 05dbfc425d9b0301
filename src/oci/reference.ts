import { resolve } from 'node:path';
import { usageError } from '../core/errors.ts';
import { isDigest } from './digest.ts';

/** Where a container image comes from. Paths are absolute. */
export type ImageReference =
  /** `docker save`'s file. The tag is NAME:TAG or an image ID, needed only where the file has several images. */
  | { kind: 'docker-archive'; path: string; tag?: string }
  /** An OCI image layout, a directory or a tar of one. The tag is a name in its index or a manifest's digest. */
  | { kind: 'oci-layout'; path: string; tag?: string }
  /** A registry's image. `registry` is HOST[:PORT] as people write it; at least one of tag and digest is there, and the digest wins. */
  | { kind: 'oci'; registry: string; repository: string; tag?: string; digest?: string }
  /** A directory that is the root file system. */
  | { kind: 'dir'; path: string };

const MAX_TEXT = 8192;

// OCI distribution specification 1.1, "Pulling manifests": <name> and <reference>.
const COMPONENT = '[a-z0-9]+(?:(?:\\.|__?|-+)[a-z0-9]+)*';
const REPOSITORY = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
const TAG = /^\w[\w.-]{0,127}$/;
// A host name, an IPv4 address or a bracketed IPv6 address, and a port.
const REGISTRY =
  /^(?:(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i;
const MAX_NAME = 255;

/**
 * Reads the text that names an image: `docker-archive:PATH[:NAME:TAG]`, `oci-layout:PATH[:TAG]`,
 * `oci:REGISTRY/REPOSITORY[:TAG][@DIGEST]` (without either the tag is "latest", as everywhere), `dir:PATH`.
 * Paths count from `projectDir`; one that is followed by a tag ends at the first colon. Touches no file and no network.
 * Throws `ERR_OCI_REFERENCE` (exit 2).
 */
export function parseReference(text: string, projectDir: string): ImageReference {
  if (text.length > MAX_TEXT) throw bad(text, `more than ${MAX_TEXT} characters`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is looked for
  if (/[\x00-\x1f\x7f]/.test(text)) throw bad(text, 'a control character');
  const [, kind, rest] = /^([^:]*):(.*)$/.exec(text) ?? [];
  if (rest === undefined) throw bad(text, 'no kind');
  switch (kind) {
    case 'docker-archive':
    case 'oci-layout':
      return local(kind, text, rest, projectDir);
    case 'dir':
      if (rest === '') throw bad(text, 'no path');
      return { kind, path: resolve(projectDir, rest) };
    case 'oci':
      return remote(text, rest);
    case 'docker':
      throw bad(text, 'the kind "docker"', "name a registry's image as oci:REGISTRY/REPOSITORY:TAG");
    default:
      throw bad(text, `the kind "${kind}"`);
  }
}

/** The text that parseReference reads back to the same reference. For messages and the lock. */
export function referenceText(reference: ImageReference): string {
  if (reference.kind !== 'oci') {
    const tag = reference.kind === 'dir' || reference.tag === undefined ? '' : `:${reference.tag}`;
    return `${reference.kind}:${reference.path}${tag}`;
  }
  const { registry, repository, tag, digest } = reference;
  return `oci:${registry}/${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}

/** A place in a registry, as `atoma-tee push` and `pull` take it. At least one of tag and digest is there. */
export type RegistryReference = Extract<ImageReference, { kind: 'oci' }>;

/**
 * Reads `REGISTRY/REPOSITORY:TAG` or `@DIGEST`, with or without "oci:" before it. No tag is guessed. Throws `ERR_OCI_REFERENCE`
 * (exit 2).
 */
export function parseRegistryReference(text: string): RegistryReference {
  const rest = text.replace(/^oci:/, '');
  const fail = (_: string, found: string, hint?: string) =>
    bad(text, found, hint, 'REGISTRY/REPOSITORY:TAG or @DIGEST');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is looked for
  if (text.length > MAX_TEXT || /[\x00-\x1f\x7f]/.test(text)) throw fail(text, 'no such name');
  const reference = remote(text, rest, fail);
  if (!/[:@]/.test(rest.slice(rest.indexOf('/')))) throw fail(text, 'no tag', 'name one: nothing is guessed');
  return reference;
}

function local(kind: 'docker-archive' | 'oci-layout', text: string, rest: string, projectDir: string): ImageReference {
  const colon = rest.indexOf(':');
  const path = colon === -1 ? rest : rest.slice(0, colon);
  if (path === '') throw bad(text, 'no path');
  if (colon === -1) return { kind, path: resolve(projectDir, path) };
  const tag = rest.slice(colon + 1);
  if (tag === '' || /\s/.test(tag)) throw bad(text, 'a colon that no tag follows');
  return { kind, path: resolve(projectDir, path), tag };
}

function remote(text: string, rest: string, fail = bad): RegistryReference {
  const slash = rest.indexOf('/');
  const first = slash === -1 ? rest : rest.slice(0, slash);
  if (CREDENTIALS.test(rest)) {
    // The reference goes into the lock and the manifest, which are there to be published.
    const hint = 'leave them out: log in (docker login, skopeo login) instead';
    throw fail(text, 'credentials', hint);
  }
  if (rest.startsWith('//')) throw fail(text, 'a URL', 'leave "//" out: oci:REGISTRY/REPOSITORY:TAG');
  // "ubuntu/python" has no registry: a registry shows itself by a dot or a port, or is localhost, as in Docker.
  if (slash === -1 || !/[.:]|^localhost$/i.test(first) || !REGISTRY.test(first) || !URL.canParse(`https://${first}`)) {
    throw fail(text, 'no registry', 'the registry comes first and is never guessed: oci:REGISTRY/REPOSITORY:TAG');
  }
  const [, name = '', tag, digest] = /^([^:@]*)(?::([^@]*))?(?:@(.*))?$/.exec(rest.slice(slash + 1)) ?? [];
  if (name.length > MAX_NAME || !REPOSITORY.test(name)) throw fail(text, 'a repository name that no registry takes');
  if (tag !== undefined && !TAG.test(tag)) throw fail(text, 'a tag that no registry takes');
  if (digest !== undefined && !isDigest(digest))
    throw fail(text, 'a malformed digest', 'a digest is sha256: and 64 hex digits');
  const at = { kind: 'oci' as const, registry: first.toLowerCase(), repository: name };
  if (digest !== undefined) return tag === undefined ? { ...at, digest } : { ...at, tag, digest };
  return { ...at, tag: tag ?? 'latest' };
}

/** What stands before an "@" that no digest but a path follows is a user's name and password, whatever the kind. */
const CREDENTIALS = /^.*@(?!sha\d)(?=[^@]*\/)/s;
const withoutSecret = (text: string): string => {
  const [kind = ''] = /^[a-z-]*:/.exec(text) ?? [];
  return kind + text.slice(kind.length).replace(CREDENTIALS, '***@');
};

const IMAGE =
  'a container image (docker-archive:PATH[:NAME:TAG], oci-layout:PATH[:TAG], oci:REGISTRY/REPOSITORY[:TAG|@DIGEST] or dir:PATH)';

const bad = (text: string, found: string, hint?: string, expected = IMAGE) =>
  usageError(
    'ERR_OCI_REFERENCE',
    `expected ${expected}, found ${found} in ${JSON.stringify(withoutSecret(text).slice(0, 200))}`,
    hint === undefined ? {} : { hint },
  );
