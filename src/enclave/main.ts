/** Entry of the enclave program: bundled into one file (scripts/build.ts), measured in every image. */
import { isMainThread } from 'node:worker_threads';
import { AtomaError } from '../core/errors.ts';

/** The other role: see command-start.ts. */
export const START = 'start';

if (isMainThread) await main();
else await import('../seal/worker.ts');

async function main(): Promise<void> {
  if (process.argv[2] === START) {
    const { startCommand } = await import('./command-start.ts');
    startCommand();
  }
  try {
    const { runEnclave } = await import('./program.ts');
    const starter = [process.execPath, '--no-warnings', process.argv[1] ?? '', START];
    process.exit(await runEnclave('/', starter, new URL(import.meta.url)));
  } catch (error) {
    // The console of an enclave is the host's to read.
    console.error(`atoma-tee: ${error instanceof AtomaError ? `${error.code}: ${error.message}` : 'internal error'}`);
    process.exit(error instanceof AtomaError ? error.exitCode : 1);
  }
}
