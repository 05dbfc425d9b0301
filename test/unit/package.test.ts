import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const json = (...path: string[]) => JSON.parse(readFileSync(join(root, ...path), 'utf8'));
const run = (command: string, ...args: string[]) =>
  execFileSync(command, args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: 1 << 26 });

interface LockedPackage {
  dev?: boolean;
  license?: string;
  resolved?: string;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}
const locked: [string, LockedPackage][] = Object.entries(json('package-lock.json').packages);

describe.skipIf(!existsSync(join(root, 'oclif.manifest.json')))('npm package (skipped before `npm run build`)', () => {
  let packed: { unpackedSize: number; files: { path: string; size: number; mode: number }[] };
  let paths: string[];
  beforeAll(() => {
    [packed] = JSON.parse(run('npm', 'pack', '--dry-run', '--json', '--ignore-scripts'));
    paths = packed.files.map((file) => file.path);
  });

  test('ships what a user needs', () => {
    expect(paths).toEqual(
      expect.arrayContaining([
        'LICENSE',
        'README.md',
        'package.json',
        'oclif.manifest.json',
        'bin/atoma-tee',
        'dist/cli/main.js',
        'dist/enclave/program.mjs',
        'templates/nitro/init',
      ]),
    );
    const executable = packed.files.filter((file) => ['bin/atoma-tee', 'templates/nitro/init'].includes(file.path));
    expect(executable.map((file) => file.mode & 0o111)).toEqual([0o111, 0o111]);
  });

  test('ships every command, and the index that keeps the start fast', () => {
    const commands = readdirSync(join(root, 'src/commands'), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => file.slice(0, -'.ts'.length));
    expect(paths).toEqual(expect.arrayContaining(commands.map((command) => `dist/commands/${command}.js`)));
    expect(Object.keys(json('oclif.manifest.json').commands).sort()).toEqual(
      commands.map((command) => command.replaceAll('/', ':')).sort(),
    );
  });

  test('ships nothing else: no tests, no examples, no keys, nothing heavy', () => {
    const expected = /^(LICENSE|README\.md|package\.json|oclif\.manifest\.json|(bin|dist|templates|docs)\/.+)$/;
    const unwanted =
      /\.(key|pem|pub|crt|onnx|sealed|eif|map|tsbuildinfo|tgz)$|(^|\/)(test|tests|bench|examples|src)\/|\.test\.|(?<!\.d)\.ts$/;
    expect(paths.filter((path) => !expected.test(path) || unwanted.test(path))).toEqual([]);
    expect(packed.files.filter((file) => file.size > 1_000_000)).toEqual([]);
    expect(packed.unpackedSize).toBeLessThan(4_000_000);
  });
});

describe('dependencies', () => {
  const permissive = [
    '0BSD',
    'Apache-2.0',
    'BlueOak-1.0.0',
    'BSD-2-Clause',
    'BSD-3-Clause',
    'CC-BY-3.0',
    'CC0-1.0',
    'ISC',
    'MIT',
  ];
  // A part of vitest's bundler: a tool that we run, neither changed nor shipped.
  const tools = /^node_modules\/lightningcss(-|$)/;

  test('every licence is permissive', () => {
    const bad = locked.filter(([path, entry]) => {
      if (path === '' || (entry.dev && tools.test(path))) return false;
      const installed = existsSync(join(root, path, 'package.json')) ? json(path, 'package.json').license : undefined;
      const choices = String(installed ?? entry.license)
        .replace(/^\((.*)\)$/, '$1')
        .split(' OR ');
      return !choices.some((choice) => permissive.includes(choice));
    });
    expect(bad.map(([path, entry]) => `${path}: ${entry.license}`)).toEqual([]);
  });

  test('the lock says which bytes, not where from', () => {
    expect(locked.filter(([, entry]) => entry.resolved !== undefined).map(([path]) => path)).toEqual([]);
  });

  test('the lock has every package that another one asks for, on any platform: `npm ci` refuses it otherwise', () => {
    const names = new Set(locked.map(([path]) => path));
    const missing = locked.flatMap(([path, { dependencies, devDependencies, optionalDependencies }]) =>
      Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies })
        .filter((name) => !placesFor(path, name).some((place) => names.has(place)))
        .map((name) => `${path || 'package.json'} asks for ${name}`),
    );
    expect(missing).toEqual([]);
  });
});

/** Where Node finds `name` from the package at `path`: its own node_modules, then those of the packages around it. */
function placesFor(path: string, name: string): string[] {
  const around = path === '' ? [] : path.split(/(?:^|\/)node_modules\//).slice(1);
  return [...around, ''].map((_, depth) =>
    [...around.slice(0, depth), name].map((part) => `node_modules/${part}`).join('/'),
  );
}

describe.skipIf(!existsSync(join(root, '.git')))('committed files (skipped outside a checkout)', () => {
  test('none names the registry or the mirror that this machine uses', () => {
    const hosts = configuredHosts();
    expect(hosts).not.toEqual([]);
    const files = run('git', '-c', 'safe.directory=*', 'ls-files', '-z')
      .split('\0')
      .filter((file) => existsSync(join(root, file)) && file !== '');
    const naming = files.filter((file) => {
      const text = readFileSync(join(root, file), 'latin1');
      return hosts.some((host) => text.includes(host));
    });
    // Files only: the names of the hosts are nobody's business in a log either.
    expect(naming).toEqual([]);
  });
});

/** Host names in npm's and apt's own configuration, this machine's own left out. */
function configuredHosts(): string[] {
  const settings = [run('npm', 'config', 'ls', '--json')];
  for (const place of [
    '/etc/apt/sources.list',
    '/etc/apt/sources.list.d',
    '/etc/apt/apt.conf',
    '/etc/apt/apt.conf.d',
  ]) {
    if (!existsSync(place)) continue;
    const files = /\.d$/.test(place) ? readdirSync(place).map((file) => join(place, file)) : [place];
    for (const file of files) settings.push(readFileSync(file, 'utf8').replace(/^\s*(#|\/\/).*$/gm, ''));
  }
  const hosts = settings.flatMap((text) =>
    [...text.matchAll(/\b[a-z+]+:\/\/(?:[^/@\s"]*@)?([\w.-]+)/gi)].map((match) => match[1] ?? ''),
  );
  // A bare word ("mirror") would be found everywhere.
  return [...new Set(hosts)].filter((host) => host.includes('.') && !/^127\./.test(host));
}
