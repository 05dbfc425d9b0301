import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { missingError } from '../core/errors.ts';
import { templateError } from './template-values.ts';

/** What else a program sees of our environment: where to look for programs and Python's modules, and no more. */
const PASSED = ['PATH', 'HOME', 'PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV', 'PYENV_ROOT', 'PYENV_VERSION'];

/** The libraries that `ldd` says the programs need, sorted by code point; lines that name no file (the vdso), and the ELF
 * interpreter's own, are left out, as Gramine leaves them out. */
export function ldd(paths: string[], directory: string): string[] {
  // ldd takes what begins with "-" for an option.
  const output = run(
    'ldd',
    paths.map((path) => (path.startsWith('-') ? `./${path}` : path)),
    directory,
  );
  const found = new Set<string>();
  for (const line of output.split('\n')) {
    const [name = '', arrow, path = ''] = line.trim().split(/\s+/);
    if (arrow === '=>' && path.startsWith('/')) found.add(path);
    else if (name.startsWith('/') && arrow?.startsWith('/')) found.add(name);
  }
  return [...found].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

/** What Gramine's templates know of Python: paths and names of the interpreter that its own tools run in. */
export interface PythonFacts {
  stdlib: string;
  platstdlib: string;
  purelib: string;
  distlib: string;
  ext_suffix: string | null;
  paths: Record<string, string>;
  config: Record<string, string | number | null>;
  implementation: { name: string; cache_tag: string | null; _multiarch?: string };
}

const FACTS = `
import json, sys, sysconfig
p = sysconfig.get_paths()
d = sysconfig.get_path('stdlib', vars={'py_version_short': sys.version_info[0]})
i = sys.implementation
print(json.dumps({'stdlib': p['stdlib'], 'platstdlib': p['platstdlib'], 'purelib': p['purelib'], 'distlib': d + '/dist-packages',
  'ext_suffix': sysconfig.get_config_var('EXT_SUFFIX'), 'paths': p,
  'config': {k: v for k, v in sysconfig.get_config_vars().items() if isinstance(v, (str, int)) or v is None},
  'implementation': {k: getattr(i, k) for k in ('name', 'cache_tag', '_multiarch') if hasattr(i, k)}}))
`;

export const pythonFacts = (interpreter: string): PythonFacts =>
  JSON.parse(run(interpreter, ['-I', '-c', FACTS], '/', 'the template uses python.*'));

/** `sys.path` of an interpreter that the template names; only what is called python is run. */
export function pythonSysPath(interpreter: string, directory: string): string[] {
  if (!/(^|\/)python[\d.]*$/.test(interpreter)) {
    throw templateError(
      `expected a Python interpreter (python, python3, ...) for python.get_sys_path, found "${interpreter}"`,
    );
  }
  const program = 'import sys; print("\\0".join(path for path in sys.path if path), end="")';
  return run(interpreter, ['-c', program], directory)
    .split('\0')
    .filter((path) => path !== '');
}

/** Gramine's tools run in Debian's Python, whatever else is in PATH. */
export const defaultPython = (): string => (existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3');

function run(program: string, args: string[], cwd: string, why?: string): string {
  try {
    const passed = PASSED.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]));
    return execFileSync(program, args, {
      cwd,
      env: { ...Object.fromEntries(passed), LC_ALL: 'C.UTF-8' },
      encoding: 'utf8',
      timeout: 30_000,
      maxBuffer: 16 << 20,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: string };
    if (code === 'ENOENT') {
      throw missingError(
        'ERR_GRAMINE_PROGRAM',
        `expected the program ${program}${why ? ` because ${why}` : ''}, found none`,
      );
    }
    const said =
      String(stderr ?? '')
        .trim()
        .split('\n')[0] ?? '';
    throw templateError(
      `expected ${program} to succeed for the template, but it failed${said === '' ? '' : `: ${said.slice(0, 200)}`}`,
    );
  }
}

/** Where distributions put an installed Gramine (its pkglibdir). */
const PLACES = [
  '/usr/lib/x86_64-linux-gnu/gramine',
  '/usr/local/lib/x86_64-linux-gnu/gramine',
  '/usr/lib/gramine',
  '/usr/lib64/gramine',
];

export const findGramine = (): string | undefined => PLACES.find((place) => existsSync(join(place, 'libsysdb.so')));

/** Numbers of the file _graminelibos_offsets.py that belongs to an installed Gramine (it is in the same prefix); empty without. */
export function gramineOffsets(pkglibdir: string): Map<string, bigint> {
  const offsets = new Map<string, bigint>();
  for (let prefix = dirname(pkglibdir); ; prefix = dirname(prefix)) {
    for (const python of listed(join(prefix, 'lib')).filter((name) => /^python3[\d.]*$/.test(name))) {
      for (const packages of ['dist-packages', 'site-packages']) {
        const file = join(prefix, 'lib', python, packages, '_graminelibos_offsets.py');
        if (!existsSync(file)) continue;
        for (const [, name, value] of readFileSync(file, 'utf8').matchAll(
          /^([A-Za-z]\w*)\s*=\s*(\d+|0x[0-9a-fA-F]+)\s*$/gm,
        )) {
          offsets.set(String(name), BigInt(String(value)));
        }
        return offsets;
      }
    }
    if (prefix === dirname(prefix)) return offsets;
  }
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
