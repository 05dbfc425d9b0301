import { readFileSync } from 'node:fs';
import { isJson, renderError, toAtomaError } from './error.ts';

/** Runs one command line. Every error of every command ends here, so that exit code and form have one home. */
export async function main(argv: string[], dir: string): Promise<void> {
  // A reader that closes early (`atoma-tee inspect X | head`) is not an error of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(process.exitCode ?? 0);
  });
  // Scripts ask for it often, and it needs none of the framework.
  if (argv.length === 1 && argv[0] === '--version') return printVersion();
  // Where it is not set, the framework asks the password file, and fails: a container's user is often not in it.
  process.env.SHELL ||= '/bin/sh';
  try {
    const { run } = await import('@oclif/core/run');
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

/** In oclif's form: "atoma-tee/1.2.3 linux-x64 node-v24.0.0". */
function printVersion(): void {
  const { name, version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  process.stdout.write(`${name}/${version} ${process.platform}-${process.arch} node-${process.version}\n`);
}
