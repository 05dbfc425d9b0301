import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { AtomaError, missingError } from '../core/errors.ts';
import { namespacesError, spawnInNamespaces } from './namespaces.ts';
import type { StageOptions } from './stage.ts';

interface Report {
  step: 'started' | 'mounted' | 'unpacked' | 'init' | 'failed';
  message?: string;
  code?: string;
}

/** The process that becomes the enclave, from the launcher's side. */
export interface StageProcess {
  child: ChildProcess;
  input: Writable;
  /** Standard output and error of everything inside. */
  output: Readable[];
  /** Resolves when the image's /init is being executed; rejects with the reason where it comes to nothing. */
  running: Promise<void>;
}

/** Starts the stage. Where the namespaces are refused, `running` rejects with `ERR_NAMESPACES` (exit 5). */
export function startStage(options: StageOptions, toolkit: { node: string; stage: string }): StageProcess {
  const node = [toolkit.node, '--no-warnings', toolkit.stage, JSON.stringify(options)];
  const child = spawnInNamespaces(node);
  const [input, stdout, stderr, reports] = child.stdio as unknown as [Writable, Readable, Readable, Readable];
  // A stage that ends early is reported by `running`.
  input.on('error', () => {});
  return { child, input, output: [stdout, stderr], running: running(child, stderr, reports) };
}

/** Where this toolkit's own stage is: TypeScript in a checkout, JavaScript in the package. */
export const stagePath = (): string =>
  fileURLToPath(new URL(`./stage.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url));

function running(child: ChildProcess, stderr: Readable, reports: Readable): Promise<void> {
  let last: Report | undefined;
  let said = '';
  const listen = (chunk: Buffer) => {
    if (said.length < 4096) said += chunk.toString();
  };
  stderr.on('data', listen);
  return new Promise<void>((resolve, reject) => {
    createInterface({ input: reports }).on('line', (line) => {
      last = JSON.parse(line) as Report;
      if (last.step === 'failed') reject(stageError(last));
      // The next thing is execve; where that fails the process ends, which the launcher watches for.
      if (last.step === 'init') resolve();
    });
    child.on('error', (error) => reject(namespacesError(error.message)));
    child.on('close', (code, signal) => {
      const words = said.trim().split('\n').at(-1) ?? '';
      if (last === undefined) reject(namespacesError(words || `unshare ended with ${code ?? signal}`));
      else reject(new AtomaError('unexpected', 'ERR_LAUNCH', `the launch ended after "${last.step}": ${words}`));
    });
  }).finally(() => stderr.off('data', listen));
}

/** Mounting is where AppArmor and containers that allow the namespaces themselves refuse. */
function stageError({ message = '', code = '' }: Report): Error {
  if (code === 'EPERM' || code === 'EACCES') return namespacesError(message);
  if (code === 'ENOSPC' || code === 'ERR_DISK_FULL' || code === 'ENOMEM') {
    return missingError('ERR_LAUNCH_MEMORY', 'the image does not fit into memory', {
      hint: 'the unpacked image lives in memory: free some, or use a machine with more',
    });
  }
  if (code.startsWith('ERR_')) return new AtomaError('usage', code as `ERR_${string}`, message);
  return new AtomaError('unexpected', 'ERR_LAUNCH', `cannot launch the image: ${message}`);
}
