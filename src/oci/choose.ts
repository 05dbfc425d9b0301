import { type AtomaError, usageError } from '../core/errors.ts';
import { shown } from './json.ts';

const list = (names: string[]): string =>
  names.length === 0
    ? 'none with a name'
    : [...names.slice(0, 20).map(shown), ...(names.length > 20 ? ['...'] : [])].join(', ');

/** Several images, and nothing says which. */
export const ambiguous = (what: string, names: string[]): AtomaError =>
  usageError('ERR_OCI_AMBIGUOUS', `${what} has several images; expected a tag that chooses one of: ${list(names)}`, {
    hint: `name one behind the path, as in ${shown(what)}:${shown(names[0] ?? 'TAG')}`,
    details: { images: names.slice(0, 100) },
  });

/** No image of that name. */
export const noSuchImage = (what: string, tag: string, names: string[]): AtomaError =>
  usageError('ERR_OCI_NOT_FOUND', `${what} has no image "${shown(tag)}"; it has: ${list(names)}`, {
    details: { images: names.slice(0, 100) },
  });
