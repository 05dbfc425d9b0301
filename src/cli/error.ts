import { stripVTControlCharacters } from 'node:util';
import ansis from 'ansis';
import { AtomaError, usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';
import { printable } from '../core/printable.ts';

/** True if `--json` was given before any `--`. */
export function isJson(argv: string[]): boolean {
  const end = argv.indexOf('--');
  return (end === -1 ? argv : argv.slice(0, end)).includes('--json');
}

/** One JSON document on stdout, or two short lines on stderr. */
export function renderError(error: AtomaError, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify({ error: error.toJSON() }, null, 2)}\n`);
  } else {
    process.stderr.write(`${ansis.red.bold('error:')} ${printable(error.message)} ${ansis.dim(`(${error.code})`)}\n`);
    if (error.hint) process.stderr.write(`  ${ansis.cyan('hint:')} ${printable(error.hint)}\n`);
    for (const line of consoleTail(error)) process.stderr.write(`  ${ansis.dim('|')} ${printable(line)}\n`);
  }
  if (process.env.DEBUG)
    process.stderr.write(`${error.stack}\n${error.cause instanceof Error ? `cause: ${error.cause.stack}\n` : ''}`);
}

/** The last lines of an enclave that died (src/launch/boot-failure.ts): what a person looks for first. */
const consoleTail = ({ details }: AtomaError): string[] =>
  Array.isArray(details?.console) ? details.console.filter((line) => typeof line === 'string') : [];

/** Gives everything that can be thrown a stable code and an exit code. */
export async function toAtomaError(thrown: unknown): Promise<AtomaError> {
  const error = ioError(thrown, 'input/output failed');
  if (error instanceof AtomaError) return error;
  if (!(error instanceof Error)) return new AtomaError('unexpected', 'ERR_UNEXPECTED', String(thrown));
  if ('oclif' in error) return fromOclif(error);
  return new AtomaError('unexpected', 'ERR_UNEXPECTED', error.message || error.name, {
    cause: error,
    hint: 'this is a bug: run again with DEBUG=1 and report what it prints',
  });
}

/** The framework's own errors are all about the command line: unknown flag, missing argument, unknown command. */
async function fromOclif(error: Error): Promise<AtomaError> {
  const message = stripVTControlCharacters(error.message).split('\n').filter(Boolean).slice(0, 3).join('; ');
  const hint = (await nearestHint(message)) ?? 'see atoma-tee --help, or --help after the command';
  return usageError('ERR_USAGE', message, { hint, cause: error });
}

async function nearestHint(message: string): Promise<string | undefined> {
  const name = /^command (\S+) not found/.exec(message)?.[1];
  if (name === undefined) return undefined;
  const { closest } = await import('fastest-levenshtein');
  const { readFileSync } = await import('node:fs');
  const manifest = JSON.parse(readFileSync(new URL('../../oclif.manifest.json', import.meta.url), 'utf8'));
  const known = Object.keys(manifest.commands).map((id) => id.replaceAll(':', ' '));
  return `did you mean: atoma-tee ${closest(name.replaceAll(':', ' '), known)}`;
}
