import { negativeError, usageError } from '../../core/errors.ts';

export const notProtected = (found: string) =>
  usageError('ERR_PF_MAGIC', `expected a Gramine protected file, which begins with GRAFS_PF, found ${found}`);

export const badVersion = (what: string, found: number) =>
  usageError(
    'ERR_PF_VERSION',
    `expected a Gramine protected file of version 1 or 2 without unknown features, found ${what} ${found}`,
  );

export const badSize = (message: string) => usageError('ERR_PF_SIZE', message);

export const badPadding = () =>
  usageError('ERR_PF_PADDING', 'expected zeros after the metadata of the protected file, found something else');

export const pendingWrite = () =>
  usageError('ERR_PF_RECOVERY', 'expected a protected file that was written to its end, found an interrupted write', {
    hint: 'let Gramine mend it: open it through a mount with enable_recovery = true',
  });

export const badWrapKey = (path: string, found: number) =>
  usageError('ERR_PF_WRAP_KEY', `expected 16 bytes in the wrap key file ${path}, found ${found}`, {
    hint: 'head -c16 /dev/urandom > FILE makes one',
  });

export const wrongKey = () =>
  negativeError(
    'ERR_PF_KEY',
    'the protected file does not open with this wrap key: it is the key of another file, or the first 4096 bytes were changed',
  );

export const tampered = (what: string) =>
  negativeError('ERR_PF_TAMPERED', `the protected file was changed: ${what} does not authenticate`);

export const malformed = (what: string) =>
  negativeError('ERR_PF_MALFORMED', `the protected file authenticates, but ${what}`);

export const otherPath = (expected: string, found: string) =>
  negativeError(
    'ERR_PF_PATH',
    `expected a protected file made for the path ${JSON.stringify(expected)}, found one for ${JSON.stringify(found)}`,
    { hint: 'Gramine opens a protected file only where it was made for: the path of its URI' },
  );

export const badName = (message: string) => usageError('ERR_PF_NAME', message, { hint: 'choose another --pf-path' });
