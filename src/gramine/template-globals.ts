import { existsSync, realpathSync } from 'node:fs';
import { missingError } from '../core/errors.ts';
import { joinPath, normalPath } from './template-operators.ts';
import { defaultPython, gramineOffsets, ldd, pythonFacts, pythonSysPath } from './template-programs.ts';
import { Scope } from './template-scope.ts';
import {
  type Arguments,
  FunctionValue,
  PathValue,
  pythonText,
  templateError,
  typeName,
  type Value,
  view,
} from './template-values.ts';

/** What a template may use, as Gramine's tools offer it (python/graminelibos/gen_jinja_env.py). */
export interface TemplateContext {
  /** Name of the template in error texts. */
  file: string;
  /** `-D NAME=VALUE`; true for `-D NAME`. They hide globals of the same name. */
  defines?: Readonly<Record<string, string | true>>;
  /** `env`; the template can print any of it. */
  env?: Readonly<Record<string, string | undefined>>;
  /** Directory of an installed Gramine (its pkglibdir, with libsysdb.so and runtime/). */
  gramine?: string | undefined;
  /** What relative paths are relative to, for `path.is_dir()`, `ldd` and the like. */
  directory: string;
}

const MAX_RANGE = 1_000_000;

/** Names that a template begins with. Those that cost (an installed Gramine, a Python) are looked up when they are used. */
export function globalScope(context: TemplateContext): Scope {
  const lazy: Record<string, () => Value> = {
    gramine: () => gramineValue(context.gramine),
    python: () => pythonValue(context.directory),
  };
  const globals = new LazyScope(lazy);
  const env = Object.entries(context.env ?? {}).filter((pair): pair is [string, string] => pair[1] !== undefined);
  globals.set('env', new Map(env));
  globals.set('ldd', new FunctionValue('ldd', ({ positional }) => ldd(positional.map(pythonText), context.directory)));
  globals.set('range', new FunctionValue('range', ({ positional }) => view(range(positional))));
  globals.set('dict', new FunctionValue('dict', ({ named }) => new Map(named)));
  for (const [names, value] of [
    [['true', 'True'], true],
    [['false', 'False'], false],
    [['none', 'None'], null],
  ] as const) {
    for (const name of names) globals.set(name, value);
  }
  const scope = new Scope(globals);
  for (const [name, value] of Object.entries(context.defines ?? {})) scope.set(name, value);
  return scope;
}

class LazyScope extends Scope {
  readonly #make: Map<string, () => Value>;

  constructor(make: Record<string, () => Value>) {
    super();
    this.#make = new Map(Object.entries(make));
  }

  override get(name: string): Value | undefined {
    const known = super.get(name);
    const make = this.#make.get(name);
    if (known !== undefined || !make) return known;
    const value = make();
    this.set(name, value);
    return value;
  }
}

function range(given: Value[]): Value[] {
  const numbers = given.map((value) => {
    if (typeof value !== 'bigint') throw templateError(`expected integers for range(), found ${typeName(value)}`);
    return value;
  });
  if (numbers.length < 1 || numbers.length > 3) throw templateError('expected one to three integers for range()');
  const [start, stop] = numbers.length === 1 ? [0n, numbers[0] ?? 0n] : [numbers[0] ?? 0n, numbers[1] ?? 0n];
  const step = numbers[2] ?? 1n;
  if (step === 0n) throw templateError('expected a step of range() that is not zero');
  const count = step > 0n ? (stop - start + step - 1n) / step : (start - stop - step - 1n) / -step;
  if (count > BigInt(MAX_RANGE))
    throw templateError(`expected a range() of at most ${MAX_RANGE} numbers, found ${count}`);
  return Array.from({ length: count > 0n ? Number(count) : 0 }, (_, i) => start + BigInt(i) * step);
}

function gramineValue(pkglibdir: string | undefined): Value {
  if (pkglibdir === undefined) {
    throw missingError(
      'ERR_GRAMINE_MISSING',
      'expected an installed Gramine because the template uses gramine.*, found none',
      {
        hint: 'install Gramine, or name its directory (the one with libsysdb.so) with --gramine',
      },
    );
  }
  const here = new PathValue(normalPath(pkglibdir));
  const runtimedir = (libc: string): PathValue => {
    const path = joinPath(joinPath(here, 'runtime'), libc).text;
    return new PathValue(existsSync(path) ? realpathSync(path) : path);
  };
  const call = ({ positional: [libc], named }: Arguments): Value =>
    runtimedir(pythonText(libc ?? named.get('libc') ?? 'glibc'));
  return new Map<string, Value>([
    ['libos', joinPath(here, 'libsysdb.so')],
    ['pkglibdir', here],
    ['runtimedir', new FunctionValue('runtimedir', call, runtimedir('glibc'))],
    ...gramineOffsets(pkglibdir),
  ]);
}

function pythonValue(directory: string): Value {
  const facts = pythonFacts(defaultPython());
  const values = (record: Record<string, string | number | null>): [string, Value][] =>
    Object.entries(record).map(([key, value]) => [key, typeof value === 'number' ? BigInt(value) : value]);
  const paths = new Map(values(facts.paths));
  const config = new Map(values(facts.config));
  const named = (map: Map<string, Value>, what: string) =>
    new FunctionValue(what, ({ positional: [key] }) => {
      const value = typeof key === 'string' ? map.get(key) : undefined;
      if (value === undefined && what === 'get_path')
        throw templateError(`expected a path that Python knows, found "${pythonText(key ?? null)}"`);
      return value ?? null;
    });
  return new Map<string, Value>([
    ['stdlib', new PathValue(facts.stdlib)],
    ['platstdlib', new PathValue(facts.platstdlib)],
    ['purelib', new PathValue(facts.purelib)],
    ['distlib', new PathValue(facts.distlib)],
    ['ext_suffix', facts.ext_suffix],
    ['get_path', named(paths, 'get_path')],
    ['get_paths', new FunctionValue('get_paths', () => new Map(paths))],
    ['get_config_var', named(config, 'get_config_var')],
    ['implementation', new Map(values(facts.implementation as Record<string, string | null>))],
    ['get_sys_path', new FunctionValue('get_sys_path', (given) => sysPath(given, directory))],
  ]);
}

function sysPath({ positional: [interpreter, all], named }: Arguments, directory: string): Value {
  const paths = pythonSysPath(pythonText(interpreter ?? named.get('interpreter') ?? null), directory);
  const keep = (all ?? named.get('include_nonexisting') ?? false) === true;
  return view(paths.filter((path) => keep || existsSync(path)).map((path) => new PathValue(normalPath(path))));
}
