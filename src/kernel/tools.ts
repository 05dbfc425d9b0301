import { isAbsolute } from 'node:path';
import { askProgram } from '../core/ask-program.ts';
import { missingError } from '../core/errors.ts';

/** A program that building a kernel runs, and the Debian package that has it. */
const PROGRAMS = {
  gcc: 'gcc',
  ld: 'binutils',
  make: 'make',
  flex: 'flex',
  bison: 'bison',
  bc: 'bc',
  gzip: 'gzip',
  xz: 'xz-utils',
} as const;

/** Programs whose version goes into the digest of a kernel's inputs: they write what ends up in it. */
const RECORDED = ['gcc', 'ld', 'make', 'flex', 'bison', 'gzip'] as const;

/** Headers that the kernel's own build tools include. */
const HEADERS = { 'stdlib.h': 'libc6-dev', 'gelf.h': 'libelf-dev' } as const;

/** The first line of `NAME --version`, by name. */
export type ToolVersions = Record<(typeof RECORDED)[number], string>;

/** All that a tool sees of this process's environment: relative entries of PATH would lead into the kernel's source. */
export const toolEnvironment = (
  env: NodeJS.ProcessEnv = process.env,
): { PATH: string; LC_ALL: string; TZ: string } => ({
  PATH: (env.PATH ?? '').split(':').filter(isAbsolute).join(':') || '/usr/bin:/bin',
  LC_ALL: 'C',
  TZ: 'UTC',
});

/**
 * Looks for what building a kernel needs on this machine and returns the versions that matter.
 * Throws `ERR_KERNEL_TOOLS` (exit 5), which names every missing Debian package.
 */
export async function findTools(env: NodeJS.ProcessEnv = process.env): Promise<ToolVersions> {
  if (process.arch !== 'x64') {
    throw missingError('ERR_KERNEL_TOOLS', `expected an x86-64 machine to build the kernel on, found ${process.arch}`, {
      hint: 'build it on an x86-64 machine with --out FILE, and name the file: kernel = { file = "FILE", cmdline = "..." }',
    });
  }
  const versions = new Map<string, string>();
  const missing = new Set<string>();
  await Promise.all(
    Object.entries(PROGRAMS).map(async ([name, debian]) => {
      const { exitCode, stdout } = await run(name, ['--version'], env);
      const line = stdout.split('\n')[0]?.trim();
      if (exitCode === 0 && line) versions.set(name, line);
      else missing.add(debian);
    }),
  );
  if (versions.has('gcc')) {
    for (const [header, debian] of Object.entries(HEADERS)) {
      const input = `#include <${header}>\n`;
      const { exitCode } = await run('gcc', ['-x', 'c', '-fsyntax-only', '-'], env, input);
      if (exitCode !== 0) missing.add(debian);
    }
  } else for (const debian of Object.values(HEADERS)) missing.add(debian);
  if (missing.size === 0) {
    return Object.fromEntries(RECORDED.map((name) => [name, versions.get(name)])) as ToolVersions;
  }
  const packages = [...missing].sort();
  throw missingError('ERR_KERNEL_TOOLS', `expected what a kernel is built with, found no ${packages.join(', no ')}`, {
    hint: `apt-get install ${packages.join(' ')} (the names are Debian's)`,
    details: { packages },
  });
}

const run = async (name: string, args: string[], env: NodeJS.ProcessEnv, input = '') => {
  const stdout = await askProgram(name, args, { env: toolEnvironment(env), timeout: 20_000, input });
  return { exitCode: stdout === null ? 1 : 0, stdout: stdout ?? '' };
};
