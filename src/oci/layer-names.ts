import { NAME_MAX } from '../image/cpio-format.ts';
import { badEntry, escapes } from './layer-errors.ts';

/** Below PATH_MAX with room for where the image's root lies in ours. */
export const MAX_PATH = 4000;
/** A directory per component is kept for each entry. */
const MAX_DEPTH = 128;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The one form of an entry's name: relative to the image's root, '' for the root itself. A leading "/" or "./" means the
 * same and goes. Throws `ERR_LAYER_ESCAPE` for "..", `ERR_LAYER_ENTRY` (exit 2) for names that are not UTF-8 (ramdisks and
 * listings hold text), too long or too deep.
 */
export function layerPath(name: Buffer, what: string): string {
  const path = layerText(name, what, 'a name');
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw escapes(what, path, 'it has ".." in its name');
  const flaw = pathFlaw(parts);
  if (flaw !== null) throw badEntry(what, path, flaw);
  return parts.join('/');
}

/** Why no entry can be called that, or null. */
export function pathFlaw(parts: string[]): string | null {
  if (Buffer.byteLength(parts.join('/')) > MAX_PATH) return `has a name of more than ${MAX_PATH} bytes`;
  if (parts.length > MAX_DEPTH) return `lies more than ${MAX_DEPTH} directories deep`;
  if (parts.some((part) => part.length > NAME_MAX || Buffer.byteLength(part) > NAME_MAX))
    return `has a component of more than ${NAME_MAX} bytes`;
  return null;
}

/** Bytes of a name or of a link's target as text. */
export function layerText(bytes: Buffer, what: string, kind: string): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw badEntry(what, bytes.toString('latin1'), `is ${kind} that is not UTF-8, which a ramdisk of ours cannot hold`);
  }
}
