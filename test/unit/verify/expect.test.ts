import { describe, expect, test } from 'vitest';
import type { NitroMeasurement } from '../../../src/core/measurement.ts';
import {
  compareMeasurement,
  type Expected,
  expectMeasurement,
  parseExpect,
  uncompared,
} from '../../../src/tasks/verify/expect.ts';

const register = (digit: string) => digit.repeat(96);
const found: NitroMeasurement = { tee: 'nitro', pcr0: register('a'), pcr1: register('b'), pcr2: register('c') };
const code = (run: () => unknown) => {
  try {
    run();
    return 'no error';
  } catch (error) {
    return (error as { code: string }).code;
  }
};

describe('--expect', () => {
  test('nothing given is no expectation at all', () => {
    expect(parseExpect([])).toBeUndefined();
  });

  test('registers, in either case', () => {
    expect(parseExpect([`pcr0=${register('A')}`])).toEqual({
      from: 'flags',
      tee: undefined,
      registers: { pcr0: register('a') },
    });
  });

  test.each([
    ['an empty value', 'pcr0='],
    ['a short value, which would compare with a prefix', `pcr0=${'a'.repeat(95)}`],
    ['a long value', `pcr0=${'a'.repeat(98)}`],
    ['an unknown register', `pcr99=${register('a')}`],
    ['a name that every object has', `constructor=${register('a')}`],
    ['no hex', `pcr0=${register('g')}`],
    ['none beside a register', 'none'],
  ])('%s: ERR_USAGE', (_, value) => {
    expect(code(() => parseExpect(value === 'none' ? ['none', `pcr0=${register('a')}`] : [value]))).toBe('ERR_USAGE');
  });
});

describe('attacks on --expect', () => {
  test('the same register twice: the last would win', () => {
    expect(code(() => parseExpect([`pcr0=${register('a')}`, `pcr0=${register('b')}`]))).toBe('ERR_USAGE');
  });

  test.each([
    [['pcr1'], 1],
    [['pcr2'], 1],
    [['pcr8'], 1],
    [['pcr0'], 0],
    [['pcr1', 'pcr2'], 0],
  ])('a register of a part of the image says so: %j', (names, count) => {
    expect(uncompared(parseExpect(names.map((name) => `${name}=${register('a')}`)) as Expected)).toHaveLength(count);
  });
});

describe('comparing registers', () => {
  const status = (checks: { status: string }[]) => checks.map((check) => check.status);

  test('all of a manifest are compared', () => {
    expect(status(compareMeasurement(expectMeasurement(found), found))).toEqual(['pass', 'pass', 'pass']);
    expect(status(compareMeasurement(expectMeasurement(found), { ...found, pcr2: register('d') }))).toContain('fail');
  });

  test('a register that the image lacks is a fail, not a skip', () => {
    const expected = parseExpect([`pcr8=${register('a')}`]);
    if (expected === undefined) throw new Error('unreachable');
    expect(compareMeasurement(expected, found)).toEqual([
      expect.objectContaining({ status: 'fail', actual: 'absent' }),
    ]);
  });

  test('a debug enclave is called that, whatever was expected', () => {
    const zero = { ...found, pcr0: register('0'), pcr1: register('0'), pcr2: register('0') };
    for (const expected of [expectMeasurement(found), expectMeasurement(zero)]) {
      expect(compareMeasurement(expected, zero)).toEqual([
        expect.objectContaining({ id: 'measurement.debug', status: 'fail' }),
      ]);
    }
  });

  test('--expect none is skipped, and said', () => {
    expect(compareMeasurement({ from: 'none' }, found)).toEqual([expect.objectContaining({ status: 'skipped' })]);
  });

  test('a simulated TEE is compared by what it stands in for', () => {
    const simulated = { tee: 'simulated', root: `sha256:${'0'.repeat(64)}`, of: found } as const;
    expect(status(compareMeasurement(expectMeasurement(found), simulated))).toEqual(['pass', 'pass', 'pass']);
  });

  test('another kind of TEE with the same register names does not pass', () => {
    const sgx = { tee: 'sgx', mrenclave: 'a'.repeat(64), mrsigner: 'b'.repeat(64), isvprodid: 0, isvsvn: 0 } as const;
    expect(status(compareMeasurement(expectMeasurement(found), sgx))).toEqual(['fail']);
  });

  describe('of a manifest with two images', () => {
    const sgx = { tee: 'sgx', mrenclave: 'a'.repeat(64), mrsigner: 'b'.repeat(64), isvprodid: 1, isvsvn: 2 } as const;
    const both = expectMeasurement(found, sgx);

    test('evidence is compared with its own TEE, every register', () => {
      expect(status(compareMeasurement(both, found))).toEqual(['pass', 'pass', 'pass']);
      expect(status(compareMeasurement(both, sgx))).toEqual(['pass', 'pass', 'pass', 'pass']);
      const simulated = { tee: 'simulated', root: `sha256:${'0'.repeat(64)}`, of: sgx } as const;
      expect(status(compareMeasurement(both, simulated))).toEqual(['pass', 'pass', 'pass', 'pass']);
    });

    test('another value of any register fails', () => {
      const others = { mrenclave: 'c'.repeat(64), mrsigner: 'c'.repeat(64), isvprodid: 0, isvsvn: 1 };
      for (const [name, value] of Object.entries(others)) {
        const failed = compareMeasurement(both, { ...sgx, [name]: value }).filter((check) => check.status === 'fail');
        expect(failed.map(({ id }) => id)).toEqual([`measurement.${name}`]);
      }
    });

    test('evidence of a TEE without an image fails, and says for which there are', () => {
      const snp = { tee: 'snp', measurement: register('a'), hostdata: 'a'.repeat(64) } as never;
      expect(compareMeasurement(both, snp)).toEqual([
        expect.objectContaining({ id: 'measurement.tee', status: 'fail', expected: 'nitro or sgx', actual: 'snp' }),
      ]);
    });
  });
});
