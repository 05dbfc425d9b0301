import { describe, expect, test } from 'vitest';
import { debianLicences } from '../../../src/bom/debian-copyright.ts';
import { packageJsonLicence } from '../../../src/bom/licences.ts';
import { isExpression, spdxLicence } from '../../../src/bom/spdx.ts';

describe('SPDX', () => {
  test.each(['MIT OR Apache-2.0', '(MIT AND (ISC OR 0BSD))', 'GPL-2.0-only WITH Linux-syscall-note', 'MIT'])(
    'an expression: %s',
    (text) => expect(isExpression(text)).toBe(true),
  );
  test.each([
    '',
    'MIT OR',
    'MIT Apache-2.0',
    '(MIT',
    'MIT)',
    'OR MIT',
    'Fish-1.0',
    'MIT WITH',
    'mit or isc',
    '('.repeat(10_000),
  ])('no expression: %j', (text) => expect(isExpression(text)).toBe(false));
  test('id, expression, name, nothing', () => {
    expect(spdxLicence(' MIT ')).toEqual({ id: 'MIT' });
    expect(spdxLicence('MIT OR ISC')).toEqual({ expression: 'MIT OR ISC' });
    expect(spdxLicence('SEE LICENSE IN x')).toEqual({ name: 'SEE LICENSE IN x' });
    expect(spdxLicence('  ')).toBeNull();
  });
  test('a hostile name has no control characters and an end', () => {
    const found = spdxLicence(`a\u001b[31m\u202e\n${'b'.repeat(100_000)}`) as { name: string };
    expect(found.name).toMatch(/^a \[31m b+$/);
    expect(found.name.length).toBe(200);
  });
});

describe('debian/copyright', () => {
  const format = 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nLicense: GPL-3+\n';
  test('names what its Files stanzas name, and not what only gives a text', () => {
    const text = `${format}
Files: *
Copyright: a
License: GPL-2+
 continued, License: fish

Files: b
License: Expat

Files: c
License: LGPL-2.1 or BSD-2-clause

Files: d
License: MIT

Files: e
License: BSD-3-clause

License: Apache-2.0
 text`;
    expect(debianLicences(text)).toEqual([
      { id: 'BSD-3-Clause' },
      { id: 'MIT' },
      { id: 'GPL-2.0-or-later' },
      { id: 'GPL-3.0-or-later' },
      { name: 'LGPL-2.1 or BSD-2-clause' },
      { name: 'MIT' },
    ]);
  });
  test('in prose it names nothing', () => expect(debianLicences('Licensed under GPL-2.\nLicense: MIT\n')).toBeNull());
  test('thousands of licences are cut off', () => {
    const stanzas = Array.from({ length: 5000 }, (_, i) => `Files: ${i}\nLicense: own-${i}\n`);
    expect(debianLicences([format, ...stanzas].join('\n'))).toHaveLength(200);
  });
});

test.each([
  [{ license: 'MIT' }, 'MIT'],
  [{ license: { type: 'ISC', url: 'x' } }, 'ISC'],
  [{ licenses: [{ type: 'MIT' }, 'ISC'] }, 'MIT, ISC'],
  [{ license: 7 }, ''],
  [{ license: null }, ''],
  [null, ''],
])('package.json %j', (json, text) => expect(packageJsonLicence(json)).toBe(text));
