import * as SPDX from '@cyclonedx/cyclonedx-library/SPDX';
import { type Licence, named } from './spdx.ts';

/** Different licences of one package; no honest one is near it. */
const MAX_LICENCES = 200;
const FORMAT =
  /^https?:\/\/(www\.debian\.org\/doc\/packaging-manuals\/copyright-format\/|dep\.debian\.net\/deps\/dep5)/;

/**
 * The licences that a machine-readable debian/copyright names for its files (Debian's copyright-format 1.0), sorted; null for a copyright
 * file in prose, in which nothing is looked for: what it means is a lawyer's affair.
 */
export function debianLicences(text: string): Licence[] | null {
  const stanzas = text.replaceAll('\r\n', '\n').split(/\n[ \t]*\n/);
  if (!FORMAT.test(field(stanzas[0] ?? '', 'Format') ?? '')) return null;
  const names = new Set<string>();
  for (const [i, stanza] of stanzas.entries()) {
    // The first is about the whole; one without Files gives a licence's text.
    if (i > 0 && field(stanza, 'Files') === undefined) continue;
    const name = field(stanza, 'License');
    if (name && names.size < MAX_LICENCES) names.add(name);
  }
  const sorted = [...names].sort((a, b) => (a < b ? -1 : 1)).map(debianLicence);
  return [...new Map(sorted.map((licence) => [JSON.stringify(licence), licence])).values()];
}

/** The first line of a field. */
function field(stanza: string, name: string): string | undefined {
  const prefix = `${name.toLowerCase()}:`;
  const line = stanza.split('\n').find((other) => other.toLowerCase().startsWith(prefix));
  return line?.slice(prefix.length).trim();
}

/**
 * A short name of copyright-format 1.0, section 7.1. Only what that section defines to be an SPDX licence is called one: "MIT" and "BSD"
 * are many there.
 */
function debianLicence(name: string): Licence {
  const [, family, version, later] = /^(GPL|LGPL|AGPL)-(\d(?:\.\d)?)(?:\.0)?(\+)?$/i.exec(name) ?? [];
  if (family !== undefined && version !== undefined) {
    const exact = `${family.toUpperCase()}-${version.includes('.') ? version : `${version}.0`}`;
    const id = `${exact}-${later ? 'or-later' : 'only'}`;
    if (SPDX.isSupportedSpdxId(id)) return { id };
  }
  if (/^expat$/i.test(name)) return { id: 'MIT' };
  if (/^cc0$/i.test(name)) return { id: 'CC0-1.0' };
  const known = SPDX.fixupSpdxId(name);
  // Its FDL may have invariant sections where SPDX's id says nothing of them.
  return known !== undefined && !/^(mit|g?fdl-.*|[al]?gpl-.*)$/i.test(name) ? { id: known } : named(name);
}
