import { type AtomaError, negativeError, usageError } from '../core/errors.ts';
import { shown } from './json.ts';

/** The layer is no tar, is truncated or damaged. `what` is for people: "layer 3". */
export const badLayer = (what: string, why: string, cause?: unknown): AtomaError =>
  usageError('ERR_LAYER_MALFORMED', `${what} cannot be read: ${why}`, cause === undefined ? {} : { cause });

/** An entry of a kind or with a name that is not taken. */
export const badEntry = (what: string, path: string, why: string): AtomaError =>
  usageError('ERR_LAYER_ENTRY', `${what}: "${shown(path)}" ${why}`);

/** An entry that would land outside the image's root. */
export const escapes = (what: string, path: string, why: string): AtomaError =>
  usageError('ERR_LAYER_ESCAPE', `${what}: "${shown(path)}" would leave the image's root: ${why}`);

/** A hard link without its file, or symlinks that lead nowhere. */
export const badLink = (what: string, path: string, why: string): AtomaError =>
  usageError('ERR_LAYER_LINK', `${what}: "${shown(path)}" ${why}`);

/** More than any honest image has. */
export const tooMuch = (what: string, why: string): AtomaError =>
  usageError('ERR_LAYER_TOO_LARGE', `${what} ${why}`, {
    hint: 'an honest image is nowhere near it; somebody may want to fill your disk',
  });

/** The uncompressed layer is not the one that the image's configuration names. */
export const wrongDiffId = (what: string, expected: string, found: string): AtomaError =>
  negativeError(
    'ERR_LAYER_DIGEST',
    `${what} unpacks to other bytes than the image names: expected ${expected}, found ${found}`,
    {
      hint: 'the image was damaged or tampered with; do not build from it before you know which',
      details: { expected, found },
    },
  );
