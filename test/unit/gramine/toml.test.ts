import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { encodeManifest, parseManifest } from '../../../src/gramine/manifest.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { caseNames, thrown } from './manifest-cases.ts';

const again = (text: string): string => encodeManifest(parseManifest(text, 'test')).toString();
const refused = (text: string) => thrown(() => parseManifest(text, 'test'));

test.runIf(haveVectors).each(caseNames.filter((name) => !/^1[78]-fail/.test(name)))(
  '%s comes back as it was',
  (name) => {
    const text = readFileSync(vectors('gramine', name, 'app.manifest'), 'utf8');
    expect(again(text)).toBe(text);
  },
);

// What tomli 2.0.1 and tomli_w 1.0.0 make of it, written down from a run of them.
test.each([
  ['1.0', '1.0'],
  ['-0.0', '-0.0'],
  ['1e16', '1e+16'],
  ['9007199254740993.0', '9007199254740992.0'],
  ['1e15', '1000000000000000.0'],
  ['1e22', '1e+22'],
  ['0.0001', '0.0001'],
  ['1e-5', '1e-05'],
  ['5e-324', '5e-324'],
  ['1.7976931348623157e308', '1.7976931348623157e+308'],
  ['1e400', 'inf'],
  ['-inf', '-inf'],
  ['-nan', 'nan'],
  ['0xfF', '255'],
  ['1_000', '1000'],
  ['99999999999999999999', '99999999999999999999'],
  ['1979-05-27T07:32:00Z', '1979-05-27 07:32:00+00:00'],
  ['1979-05-27 07:32:00.1234567-07:00', '1979-05-27 07:32:00.123456-07:00'],
  ['1979-05-27T07:32:00.500', '1979-05-27 07:32:00.500000'],
  ['1979-05-27T07:32:00-00:00', '1979-05-27 07:32:00+00:00'],
  ['2000-02-29', '2000-02-29'],
  ['07:32:00', '07:32:00'],
  ['"a\\tb\\u0000\\u007f\\r\\n\\"\\\\é😀"', '"a\tb\\u0000\\u007f\\r\\n\\"\\\\é😀"'],
  ["'''a\nb'''", '"a\\nb"'],
  ['[]', '[]'],
  ['[1, [2, []]]', '[\n    1,\n    [\n        2,\n        [],\n    ],\n]'],
  ['[1, {}]', '[\n    1,\n    {},\n]'],
  ['[1, {a = [1]}]', '[\n    1,\n    { a = [\n    1,\n] },\n]'],
])('x = %s', (value, expected) => {
  expect(again(`x = ${value}`)).toBe(`x = ${expected}\n`);
});

describe('tables', () => {
  test('literals come first, then tables; headers only where there is something to say', () => {
    expect(again('[a.b]\nx = 1\n[a.c]\n[d]\ny.z = 2\nw = 3\n[e]\n')).toBe(
      '[a.b]\nx = 1\n\n[a.c]\n\n[d]\nw = 3\n\n[d.y]\nz = 2\n\n[e]\n',
    );
  });

  test('an array of tables is inline up to 100 code points a line', () => {
    const fits = `{ u = "${'😀'.repeat(83)}" }`;
    expect(again(`a = [${fits}]`)).toBe(`a = [\n    ${fits},\n]\n`);
    expect(again(`a = [{ u = "${'x'.repeat(84)}" }]`)).toBe(`a = [\n    { u = "${'x'.repeat(84)}" },\n]\n`);
    expect(again(`a = [{ u = "${'x'.repeat(86)}" }]`)).toBe(`[[a]]\nu = "${'x'.repeat(86)}"\n`);
  });

  test('keys that are no bare keys are quoted', () => {
    expect(again('"a.b" = 1\n"" = 2\n"é" = 3\n[x."y z"]\nk = 1\n')).toBe(
      '"a.b" = 1\n"" = 2\n"é" = 3\n\n[x."y z"]\nk = 1\n',
    );
  });

  test('__proto__ and constructor are keys like any other', () => {
    const text = '__proto__ = 1\nconstructor = 2\n\n[a.__proto__]\nb = 1\n';
    expect(again(text)).toBe(text);
    expect(({} as any).b).toBeUndefined();
  });

  test('line ends of Windows and old Macs are line ends, also in strings', () => {
    expect(again('a = """x\r\ny"""\r\nb = 1\r')).toBe('a = "x\\ny"\nb = 1\n');
  });
});

describe('refused', () => {
  test.each([
    ['a = 1\na = 2', 'ERR_GRAMINE_SYNTAX'],
    ['[a]\n[a]', 'ERR_GRAMINE_SYNTAX'],
    ['a = ', 'ERR_GRAMINE_SYNTAX'],
    ['a = "\u0000"', 'ERR_GRAMINE_SYNTAX'],
    ['a = {b = 1', 'ERR_GRAMINE_SYNTAX'],
    // JavaScript makes March 2nd of it.
    ['a = 2023-02-30', 'ERR_GRAMINE_SYNTAX'],
    ['a = 0000-01-01', 'ERR_GRAMINE_SYNTAX'],
    // Two dates that differ by less than JavaScript can tell.
    ['a = 07:32:00.0001\nb = 07:32:00.0002', 'ERR_GRAMINE_SYNTAX'],
  ])('%j', async (text, code) => {
    expect(await refused(text)).toMatchObject({ code, exitCode: 2 });
  });

  test('line and column are given', async () => {
    expect((await refused('a = 1\nb = = 2\n')).message).toMatch(/^test:2:\d+: /);
  });

  test('numbers as keys beside others: JavaScript would sort them', async () => {
    expect(await refused('[loader.env]\nb = "x"\n1 = "y"\n')).toMatchObject({ code: 'ERR_GRAMINE_KEY_ORDER' });
    expect(await thrown(() => encodeManifest({ b: 'x', 1: 'y' }))).toMatchObject({ code: 'ERR_GRAMINE_KEY_ORDER' });
    expect(again('[a]\n1 = "alone"\n[b]\n01 = 1\n-1 = 2\n4294967295 = 3\n')).toBe(
      '[a]\n1 = "alone"\n\n[b]\n01 = 1\n-1 = 2\n4294967295 = 3\n',
    );
  });

  test('tables in tables in tables: no stack overflow', async () => {
    expect(await refused(`a${'.a'.repeat(100_000)} = 1`)).toMatchObject({ code: 'ERR_GRAMINE_SYNTAX' });
    expect(await refused(`a = ${'['.repeat(100_000)}`)).toMatchObject({ code: 'ERR_GRAMINE_SYNTAX' });
  });

  test('half of a surrogate pair is not written', async () => {
    expect(await thrown(() => encodeManifest({ a: '\ud800' }))).toMatchObject({ code: 'ERR_GRAMINE_VALUE' });
  });

  test('what TOML cannot hold is a mistake of ours', () => {
    expect(() => encodeManifest({ a: null })).toThrow(TypeError);
    expect(() => encodeManifest({ a: undefined })).toThrow(TypeError);
  });
});
