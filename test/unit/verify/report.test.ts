import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import { trustTree } from '../../../src/cli/trust-tree.ts';
import { fail, pass, skipped } from '../../../src/core/check.ts';
import { missingError, negativeError, usageError } from '../../../src/core/errors.ts';
import { Findings } from '../../../src/tasks/verify/report.ts';

describe('the verdict on one file', () => {
  test('no check at all is a fail: an empty list must never read as a pass', () => {
    expect(new Findings().result('f', 'eif').verdict).toBe('fail');
  });

  test('only skipped checks are a fail', () => {
    const findings = new Findings();
    findings.add(skipped('measurement.any', 'any will do'));
    expect(findings.result('f', 'eif').verdict).toBe('fail');
  });

  test('one failed check among passes is a fail', () => {
    const findings = new Findings();
    findings.add(pass('a'), fail('b', {}), pass('c'));
    expect(findings.result('f', 'eif').verdict).toBe('fail');
  });

  test('what a parser or verifier refuses is a failed check with its code', async () => {
    const findings = new Findings();
    for (const error of [usageError('ERR_EIF_MAGIC', 'no'), negativeError('ERR_EIF_CRC', 'no')]) {
      expect(await findings.step('image', () => Promise.reject(error))).toBeUndefined();
    }
    expect(findings.checks.map((check) => check.detail)).toEqual(['no (ERR_EIF_MAGIC)', 'no (ERR_EIF_CRC)']);
  });

  test.each([
    ['a missing prerequisite', missingError('ERR_EVIDENCE_UNSUPPORTED', 'no')],
    ['a file that is not there', usageError('ERR_FILE_NOT_FOUND', 'no')],
    ['a bug', new TypeError('no')],
  ])('%s is no verdict: it is thrown', async (_, error) => {
    await expect(new Findings().step('image', () => Promise.reject(error))).rejects.toBe(error);
  });
});

describe('the trust tree', () => {
  const result = (detail: string) => {
    const findings = new Findings();
    findings.add(pass('evidence.root', detail), fail('measurement.pcr0', { expected: 'aa', actual: 'bb' }));
    findings.notChecked.push('the weather');
    return findings.result('receipt.cbor', 'receipt');
  };
  const plain = stripVTControlCharacters;
  const policy = { now: '2026-11-22T10:00:00.000Z', flags: {} };

  test('says expected and found where a check failed, what was not checked, and one word at the end', () => {
    const text = plain(trustTree({ verdict: 'fail', simulated: true, policy, results: [result('sha256:00')] }));
    expect(text).toMatch(/✘ pcr0\n.*expected aa\n.*found {4}bb/);
    expect(text).toMatch(/not checked:\n.*the weather/);
    expect(text.trimEnd().split('\n').at(-1)).toMatch(/^FAIL {2}SIMULATED.* {2}wrong measurement$/);
  });

  test('hostile text cannot drive the terminal', () => {
    const hostile = 'x\u001b[2J\u001b]0;owned\u0007\r\u009b31m\u202e\nPASS';
    const text = plain(trustTree({ verdict: 'fail', simulated: false, policy, results: [result(hostile)] }));
    expect(text.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(text).not.toMatch(/^PASS/m);
  });
});
