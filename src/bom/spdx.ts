import * as SPDX from '@cyclonedx/cyclonedx-library/SPDX';

/** A licence as CycloneDX tells it: an SPDX id or expression where that is certain, else a name. */
export type Licence = { id: string } | { expression: string } | { name: string };

const MAX_NAME = 200;

/** For people, from somebody else's text. */
export const named = (text: string): Licence => ({
  name: text
    .replace(/[\p{Cc}\p{Cf}\s]+/gu, ' ')
    .trim()
    .slice(0, MAX_NAME),
});

/** An SPDX id or expression as npm and Alpine write it, else a name; null for nothing. */
export function spdxLicence(text: string): Licence | null {
  const trimmed = text.trim();
  if (trimmed === '') return null;
  const known: boolean = SPDX.isSupportedSpdxId(trimmed);
  if (known) return { id: trimmed };
  return trimmed.length <= 1000 && isExpression(trimmed) ? { expression: trimmed } : named(trimmed);
}

/**
 * Whether a text is an SPDX licence expression (SPDX specification 2.3, annex D) of known licences. Exceptions are not looked up:
 * they have the form of an id.
 */
export function isExpression(text: string): boolean {
  const tokens = text.match(/[()]|[^\s()]+/g) ?? [];
  let at = 0;
  const term = (depth: number): boolean => {
    const token = tokens[at++];
    if (token === '(') return depth < 32 && either(depth + 1) && tokens[at++] === ')';
    if (token === undefined || !SPDX.isSupportedSpdxId(token.replace(/\+$/, ''))) return false;
    if (tokens[at] !== 'WITH') return true;
    at += 2;
    return /^[A-Za-z0-9.-]+$/.test(tokens[at - 1] ?? '');
  };
  const either = (depth: number): boolean => {
    if (!term(depth)) return false;
    while (tokens[at] === 'AND' || tokens[at] === 'OR') {
      at++;
      if (!term(depth)) return false;
    }
    return true;
  };
  return either(0) && at === tokens.length;
}
