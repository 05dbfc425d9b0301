import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { bootError } from '../../../src/launch/boot-failure.ts';
import { createConsole } from '../../../src/launch/console.ts';

/** What a console with these lines makes of an end, or of silence. */
async function explain(lines: string[], silent = false) {
  const log: string[] = [];
  const console = createConsole((line) => log.push(line));
  const output = new PassThrough();
  console.listen(output);
  output.end(lines.map((line) => `${line}\r\n`).join(''));
  await new Promise((resolve) => output.once('end', resolve));
  const error = bootError(console.facts(), 'the machine reset or switched off', { silent });
  return { error, details: error.details as { stage: string; status: number | null; console: string[] }, log };
}

const kernel = '[    0.000000] Linux version 6.12.95';
const started = '[    3.091458] Run /init as init process';

// Lines as Debian's 6.12 and templates/nitro/init printed them under QEMU.
test.each([
  [
    'too little memory, by the kernel',
    [
      kernel,
      '[    1.2] x',
      '[    1.200000] Initramfs unpacking failed: write error',
      started,
      'init: the image was not unpacked whole: give the enclave more memory',
    ],
    'ERR_ENCLAVE_MEMORY',
    2,
    'init',
    /write error/,
  ],
  [
    'a ramdisk that was cut off, by the init',
    [kernel, started, 'init: the image was not unpacked whole: give the enclave more memory'],
    'ERR_ENCLAVE_MEMORY',
    2,
    'init',
    /not unpacked whole/,
  ],
  [
    'the out-of-memory killer',
    [
      kernel,
      started,
      '[   16.000000] Out of memory: Killed process 120 (node)',
      'init: the program ended with status 137',
    ],
    'ERR_ENCLAVE_MEMORY',
    2,
    'init',
    /Killed process/,
  ],
  [
    'a ramdisk that is none',
    [kernel, '[    1.200000] Initramfs unpacking failed: invalid magic at start of compressed archive'],
    'ERR_ENCLAVE_BOOT',
    1,
    'kernel',
    /invalid magic/,
  ],
  [
    'no init',
    [
      kernel,
      '[    4.8] x',
      '[    4.835307] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)',
    ],
    'ERR_ENCLAVE_BOOT',
    1,
    'kernel',
    /Unable to mount root/,
  ],
  ['nothing at all', [], 'ERR_ENCLAVE_BOOT', 1, 'nothing', /no line of a kernel/],
  [
    'a program that ends with a code of ours',
    [
      kernel,
      started,
      'atoma-tee: waiting',
      'ERR_ATTESTER: found no device',
      'init: the program ended with status 5',
      '[    9.6] reboot: machine restart',
    ],
    'ERR_ENCLAVE_ENDED',
    1,
    'program',
    /status 5.*ERR_ATTESTER: found no device/,
  ],
])('%s', async (_, lines, code, exitCode, stage, message) => {
  const { error, details } = await explain(lines);
  expect(error).toMatchObject({ code, exitCode });
  expect(error.message).toMatch(message);
  expect(details.stage).toBe(stage);
  expect(details.console).toEqual(lines);
});

test('the status of the program is told, and a module that did not load', async () => {
  const lines = [started, 'init: cannot load /modules/30-nsm.ko', 'init: the program ended with status 70'];
  const { error, details } = await explain(lines);
  expect(details.status).toBe(70);
  expect(error.hint).toContain('/modules/30-nsm.ko');
});

test('an init that gives up: the stage that it named, and its words', async () => {
  const lines = [started, 'init: stage unpacked', 'init: stage mounts', 'init: cannot mount /dev'];
  const { error, details } = await explain(lines);
  expect(error.code).toBe('ERR_ENCLAVE_BOOT');
  expect(error.message).toContain('init, stage mounts): cannot mount /dev');
  expect(details).toMatchObject({ stage: 'init', initStage: 'mounts' });
});

test('silence is not an end: how far it came is told', async () => {
  const { error } = await explain([kernel, started], true);
  expect(error).toMatchObject({ code: 'ERR_ENCLAVE_SILENT', exitCode: 1 });
  expect(error.message).toContain('as far as: init');
});

test('a hostile console: no control characters, a bounded tail, a line without an end', async () => {
  const lines = [
    ...Array.from({ length: 500 }, (_, i) => `line ${i}`),
    '\u001b[2Jgone\u0007\u202e',
    'x'.repeat(1 << 20),
  ];
  const { details, log } = await explain(lines);
  expect(details.console).toHaveLength(15);
  expect(Math.max(...details.console.map((line) => line.length))).toBe(400);
  expect(details.console.join('')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  expect(Math.max(...log.map((line) => line.length))).toBeLessThanOrEqual(16 << 10);
});

test('what a program prints cannot pass for the kernel’s word on memory', async () => {
  const { error } = await explain([started, 'Out of memory', 'init: the program ended with status 1']);
  expect(error.code).toBe('ERR_ENCLAVE_ENDED');
});
