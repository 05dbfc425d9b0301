import { run } from '@oclif/core/run';
import { isJson, renderError, toAtomaError } from './error.ts';

/** Runs one command line. Every error of every command ends here, so that exit code and form have one home. */
export async function main(argv: string[], dir: string): Promise<void> {
  // A reader that closes early (`atoma-tee inspect X | head`) is not an error of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(process.exitCode ?? 0);
  });
  try {
    await run(argv, dir);
  } catch (thrown) {
    if (isCleanExit(thrown)) return;
    const error = await toAtomaError(thrown);
    process.exitCode = error.exitCode;
    renderError(error, isJson(argv));
  }
}

/** oclif throws an "error" with exit code 0 to leave `--help`. */
const isCleanExit = (thrown: unknown): boolean => (thrown as { oclif?: { exit?: number } })?.oclif?.exit === 0;
