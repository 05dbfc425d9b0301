import { spawn } from 'node:child_process';
import { AtomaError } from '../core/errors.ts';
import { MODULUS_SIZE } from './sigstruct.ts';

/** A person may have to touch a token. */
const LIMIT_MS = 120_000;
/** Names of variables that are between us and our own processes; what they say is not a signer's business. */
const OURS = /^(ATOMA_|NODE_OPTIONS$)/;

/**
 * Runs a signer's command with `sh -c`: the message goes to its standard input, the raw signature comes from its standard
 * output; what it says on standard error the user sees. It has no terminal. Throws `ERR_SIGNER` (exit 1) where it cannot be
 * started, fails, prints anything but 384 bytes, or takes longer than the limit; nothing that it started stays.
 */
export function askSigner(command: string, message: Uint8Array, limitMs = LIMIT_MS): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !OURS.test(name)));
    // A group of its own, so that whatever it starts ends with it.
    const child = spawn('/bin/sh', ['-c', command], { env, stdio: ['pipe', 'pipe', 'inherit'], detached: true });
    const chunks: Buffer[] = [];
    let size = 0;
    const end = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // All of it has ended by itself.
      }
    };
    let settled = false;
    const settle = (finish: () => void) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      process.off('exit', end);
      end();
      child.stdout.destroy();
      finish();
    };
    const fail = (why: string) => settle(() => reject(failed(why)));
    const timer = setTimeout(() => fail(`it did not answer in ${limitMs / 1000} seconds`), limitMs);
    process.on('exit', end);
    child.on('error', (error) => fail(`it cannot be started (${(error as NodeJS.ErrnoException).code})`));
    child.stdout.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MODULUS_SIZE) fail(`it printed more than ${MODULUS_SIZE} bytes`);
      else chunks.push(chunk);
    });
    // It may end without reading.
    child.stdin.on('error', () => {});
    child.stdin.end(message);
    child.on('close', (status, signal) => {
      if (status !== 0) fail(`it ended with ${signal ?? `status ${status}`}`);
      else if (size !== MODULUS_SIZE) fail(`it printed ${size} bytes, expected ${MODULUS_SIZE}`);
      else settle(() => resolve(Buffer.concat(chunks)));
    });
  });
}

const failed = (why: string) =>
  new AtomaError('unexpected', 'ERR_SIGNER', `the signer's command is of no use: ${why}`, {
    hint: 'it reads the bytes to sign on standard input and prints the raw signature: openssl dgst -sha256 -sign KEY',
  });
