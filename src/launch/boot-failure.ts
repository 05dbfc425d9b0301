import { AtomaError, type ErrorOptions, usageError } from '../core/errors.ts';
import type { BootFacts } from './console.ts';

/**
 * Explains an enclave that ended, or fell silent, before it served: which stage it reached, the status of the program
 * inside, and the tail of its console (`details`: {"stage", "initStage"?, "status", "console"}). `how` says what was seen from outside.
 *
 * `ERR_ENCLAVE_MEMORY` (exit 2), `ERR_ENCLAVE_BOOT` (the kernel or the init did not get to the program),
 * `ERR_ENCLAVE_ENDED` (the program ended), `ERR_ENCLAVE_SILENT` where `silent`.
 */
export function bootError(facts: BootFacts, how: string, { silent = false } = {}): AtomaError {
  const { stage, status, tail, panic, memory, ramdisk, incomplete, modules } = facts;
  const options = (hint?: string): ErrorOptions => ({
    ...(hint === undefined ? {} : { hint }),
    details: { stage, ...(facts.initStage ? { initStage: facts.initStage } : {}), status, console: [...tail] },
  });
  const fail = (code: `ERR_${string}`, message: string, hint?: string) =>
    new AtomaError('unexpected', code, message, options(hint));

  if (memory !== undefined) {
    return usageError(
      'ERR_ENCLAVE_MEMORY',
      `the enclave ran out of memory: ${memory}`,
      options('give it more: --memory MIB'),
    );
  }
  if (ramdisk !== undefined) {
    const why = `expected a ramdisk that the kernel can unpack, and it says: ${ramdisk}`;
    return fail('ERR_ENCLAVE_BOOT', why, 'the image is damaged or was cut off: build it again');
  }
  if (incomplete !== undefined) {
    const hint = 'give it more memory: --memory MIB; if it has enough, the image was cut off when it was made';
    return usageError('ERR_ENCLAVE_MEMORY', `the enclave's ramdisk is incomplete: ${incomplete}`, options(hint));
  }
  if (panic !== undefined) {
    const noInit = /No working init found|Unable to mount root fs|Requested init/.test(panic);
    return fail(
      'ERR_ENCLAVE_BOOT',
      `the enclave's kernel gave up: ${panic}`,
      noInit
        ? 'the first ramdisk holds no /init that this kernel can run: is it an image of `atoma-tee build`?'
        : undefined,
    );
  }
  if (stage === 'nothing') {
    const why = `expected a kernel that starts, and ${how}: no line of a kernel was printed`;
    return fail(
      silent ? 'ERR_ENCLAVE_SILENT' : 'ERR_ENCLAVE_BOOT',
      why,
      'is the kernel in the image one for this machine?',
    );
  }
  const module = modules[0] === undefined ? undefined : `${modules[0]}: is the module of another kernel?`;
  if (silent) return fail('ERR_ENCLAVE_SILENT', `${how}; it came as far as: ${where(facts)}`, module);
  if (stage === 'kernel') return fail('ERR_ENCLAVE_BOOT', `${how} before its kernel had started the init`, module);
  if (stage === 'init' && status === null && facts.initStage !== undefined && facts.initStage !== 'program') {
    const words = facts.initWords ?? 'it did not say why';
    return fail('ERR_ENCLAVE_BOOT', `the enclave's init gave up (${where(facts)}): ${words}`, module);
  }
  const words =
    status === null
      ? lastWords(facts)
      : `status ${status}, and its last words were: ${facts.error ?? lastWords(facts)}`;
  return fail('ERR_ENCLAVE_ENDED', `the enclave ended before it served: ${words}`, module);
}

const where = ({ stage, initStage }: BootFacts): string =>
  stage === 'init' && initStage !== undefined ? `init, stage ${initStage}` : stage;

/** The last line that is not about switching off. */
const lastWords = ({ tail }: BootFacts): string =>
  tail.findLast((line) => !/^init: the program ended|\] (reboot:|ACPI: PM: )/.test(line)) ?? 'it said nothing';
