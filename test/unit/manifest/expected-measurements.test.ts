import { expect, test } from 'vitest';
import { parseExpectedMeasurements } from '../../../src/manifest/expected-measurements.ts';

const [right, wrong, enclave] = ['a'.repeat(96), 'b'.repeat(96), 'c'.repeat(64)];
const read = (json: unknown) => parseExpectedMeasurements(Buffer.from(JSON.stringify(json)));
const refused = (json: unknown, why = '') =>
  expect(() => read(json)).toThrow(
    expect.objectContaining({
      code: 'ERR_MEASUREMENTS_MALFORMED',
      exitCode: 2,
      message: expect.stringContaining(why),
    }),
  );

test('a file that names nothing is no expectation', () => {
  for (const json of [{}, [], null, 1, '', { images: [] }, { pcr0: '' }, { tee: 'sgx', isvsvn: 0 }]) refused(json);
});

test('a second measurement of one target does not hide behind the first', () => {
  refused(
    { images: [{ measurement: { pcr0: right } }, { measurement: { pcr0: wrong } }] },
    'two measurements for nitro',
  );
  refused({ pcr0: wrong, mrenclave: enclave }, 'Nitro and of SGX in one');
});

test('registers that leave the program uncompared are not enough', () => {
  refused({ pcr1: right }, 'neither pcr0 nor both');
  refused({ pcr8: right }, 'neither pcr0 nor both');
  refused({ mrsigner: enclave, isvsvn: 1 }, 'no mrenclave');
  expect(read({ pcr1: right, pcr2: right })).toMatchObject([{ target: 'nitro' }]);
  expect(read({ mrenclave: enclave })).toMatchObject([{ target: 'gramine' }]);
});

test("a debug enclave's zeros are called that", () => {
  const zeros = '0'.repeat(96);
  refused({ Measurements: { PCR0: zeros, PCR1: zeros, PCR2: zeros } }, 'debug enclave');
});
