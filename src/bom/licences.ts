import * as Models from '@cyclonedx/cyclonedx-library/Models';
import type { LicenceDocument } from '../image/licence.ts';
import { debianLicences } from './debian-copyright.ts';
import type { LicenceStatement, StatedEntry } from './facts.ts';
import { type Licence, named, spdxLicence } from './spdx.ts';

/** What a package in the lock says of its licence. */
export const statementOf = ({ kind, licence }: StatedEntry): LicenceStatement =>
  kind === 'deb' ? { kind, document: licence } : { kind, text: npmText(licence) };

/** `license` of a package.json: a string; before npm 3 an object, or `licenses`, a list of them. */
export function packageJsonLicence(json: unknown): string {
  const { license, licenses } = (json ?? {}) as { license?: unknown; licenses?: unknown };
  const one = (value: unknown): string => {
    const text = typeof value === 'string' ? value : (value as { type?: unknown } | null | undefined)?.type;
    return typeof text === 'string' ? text : '';
  };
  return Array.isArray(licenses) && license === undefined ? licenses.slice(0, 20).map(one).join(', ') : one(license);
}

function npmText(document: LicenceDocument | null): string {
  if (document === null || 'link' in document) return '';
  try {
    return packageJsonLicence(JSON.parse(document.bytes.toString('utf8')));
  } catch {
    return '';
  }
}

/** Licences of a component; none where nothing states any. */
export function licencesOf(statement: LicenceStatement): InstanceType<typeof Models.LicenseRepository> {
  return new Models.LicenseRepository(listed(statement).map(model));
}

function listed(statement: LicenceStatement): Licence[] {
  if (statement.kind !== 'deb') {
    const found = spdxLicence(statement.text);
    return found === null ? [] : [found];
  }
  const { document } = statement;
  if (document === null) return [];
  if ('link' in document)
    return [named(`see the copyright file of the Debian package ${document.link.split('/').at(-1)}`)];
  const found = debianLicences(document.bytes.toString('utf8'));
  return found === null || found.length === 0 ? [named(`see ${document.path} in the package`)] : found;
}

function model(licence: Licence) {
  const made =
    'id' in licence
      ? new Models.SpdxLicense(licence.id)
      : 'expression' in licence
        ? new Models.LicenseExpression(licence.expression)
        : new Models.NamedLicense(licence.name);
  return made;
}
