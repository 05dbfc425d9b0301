import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { drawDigit } from '../../../src/cli/draw-digit.ts';

describe('drawDigit', () => {
  test('draws what a person sees in the image', () => {
    const request = readFileSync(join(import.meta.dirname, '../../../examples/digits/inputs/07.json'), 'utf8');
    expect(drawDigit(JSON.parse(request).inputs[0].data).split('\n')).toEqual([
      '      ▒▒▓▓      ',
      '      ██▓▓      ',
      '    ▒▒▓▓        ',
      '    ▓▓▒▒        ',
      '    ▓▓██████░░  ',
      '    ██▓▓    ██  ',
      '    ▒▒▓▓  ░░██░░',
      '      ▒▒████▒▒  ',
    ]);
  });

  test('goes from paper to ink in five shades', () => {
    expect(drawDigit([0, 4, 8, 12, 16], 5)).toBe('  ░░▒▒▓▓██');
  });

  test('draws a value out of range, or none at all, as the nearest in range', () => {
    expect(drawDigit([-1, 99, Number.NaN], 3)).toBe('  ██  ');
  });

  test('uses no control characters but the line feed', () => {
    expect(drawDigit(Array.from({ length: 64 }, (_, i) => i % 17))).toMatch(/^[ ░▒▓█\n]*$/);
  });
});
