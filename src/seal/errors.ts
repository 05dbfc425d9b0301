import { negativeError, usageError } from '../core/errors.ts';

// Refusals that several modules here share.

export const truncated = (why: string) => usageError('ERR_SEAL_TRUNCATED', `the sealed model is cut off: ${why}`);

/** `where`: "the index", "part 2". */
export const paddingError = (where: string) =>
  usageError('ERR_SEAL_PADDING', `the padding after ${where} of the sealed model is not zero`);

export const tampered = (why: string) => negativeError('ERR_SEAL_TAMPERED', `the sealed model was changed: ${why}`);

export const sourceChanged = (path: string) =>
  usageError('ERR_SEAL_SOURCE_CHANGED', `the model file ${path} changed while it was being sealed`, {
    hint: 'seal again when nothing writes to the model',
  });

/** An authentic file whose digest is not the one that the index names. */
export const wrongDigest = (path: string) =>
  negativeError(
    'ERR_SEAL_DIGEST',
    `the file ${JSON.stringify(path)} in the sealed model is not the one that was sealed`,
    {
      hint: 'its owner should seal the model again, with --rehash',
    },
  );
