import { statSync } from 'node:fs';
import { posix } from 'node:path';
import { items, replaceAll, splitSpaces, strip } from './template-filters.ts';
import { joinPath, normalPath } from './template-operators.ts';
import {
  type Arguments,
  FunctionValue,
  PathValue,
  pythonText,
  templateError,
  tuple,
  typeName,
  type Value,
  view,
} from './template-values.ts';

type Method<T> = (self: T, given: Arguments) => Value;
const text = (value: Value | undefined, what: string): string => {
  if (typeof value !== 'string')
    throw templateError(`expected a string for ${what}, found ${value === undefined ? 'nothing' : typeName(value)}`);
  return value;
};

/** Methods of Python's str. A Map, so that "constructor" and its like find nothing. */
const STRING = new Map<string, Method<string>>([
  ['upper', (s) => s.toUpperCase()],
  ['lower', (s) => s.toLowerCase()],
  ['strip', (s, { positional: [chars] }) => strip(s, chars)],
  ['lstrip', (s, { positional: [chars] }) => strip(s, chars, 'left')],
  ['rstrip', (s, { positional: [chars] }) => strip(s, chars, 'right')],
  ['startswith', (s, { positional: [start] }) => s.startsWith(text(start, 'startswith'))],
  ['endswith', (s, { positional: [end] }) => s.endsWith(text(end, 'endswith'))],
  [
    'removeprefix',
    (s, { positional: [p] }) => (s.startsWith(text(p, 'removeprefix')) ? s.slice(text(p, '').length) : s),
  ],
  [
    'removesuffix',
    (s, { positional: [p] }) =>
      text(p, 'removesuffix') !== '' && s.endsWith(text(p, '')) ? s.slice(0, -text(p, '').length) : s,
  ],
  ['replace', (s, given) => replaceAll(s, given)],
  ['split', (s, { positional: [by] }) => split(s, by)],
  [
    'join',
    (s, { positional: [list] }) =>
      items(list ?? null)
        .map((item) => text(item, 'join'))
        .join(s),
  ],
]);

function split(s: string, by: Value = null): Value[] {
  if (by === null) return splitSpaces(s);
  if (text(by, 'split') === '') throw templateError('expected a separator, found an empty string');
  return s.split(text(by, 'split'));
}

function lookUp(map: Map<string, Value>, key: Value | undefined, other: Value = null): Value {
  const value = typeof key === 'string' ? map.get(key) : undefined;
  return value === undefined ? other : value;
}

const MAPPING = new Map<string, Method<Map<string, Value>>>([
  ['get', (map, { positional: [key, other] }) => lookUp(map, key, other)],
  ['keys', (map) => view([...map.keys()])],
  ['values', (map) => view([...map.values()])],
  ['items', (map) => view([...map].map((pair) => tuple([...pair])))],
]);

/** Of pathlib.Path. Those that look at the disk are for what Gramine's own examples do: is it a directory? */
const PATH = new Map<string, (path: string, directory: string) => Method<PathValue> | Value>([
  ['name', (path) => posix.basename(path)],
  ['stem', (path) => posix.parse(path).name],
  ['suffix', (path) => posix.parse(path).ext],
  ['parent', (path) => new PathValue(posix.dirname(path))],
  ['is_dir', (path, directory) => () => look(path, directory)?.isDirectory() ?? false],
  ['is_file', (path, directory) => () => look(path, directory)?.isFile() ?? false],
  ['exists', (path, directory) => () => look(path, directory) !== undefined],
  ['is_absolute', (path) => () => path.startsWith('/')],
  ['as_posix', (path) => () => path],
  [
    'joinpath',
    () =>
      (self, { positional }) =>
        positional.reduce<PathValue>((at, part) => joinPath(at, pythonText(part)), self),
  ],
]);

function look(path: string, directory: string) {
  try {
    return statSync(path.startsWith('/') ? path : `${directory}/${normalPath(path)}`, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** How many arguments a method takes at most; a further one would be ignored, and Python would not. */
const ARGUMENTS = new Map(
  Object.entries({
    upper: 0,
    lower: 0,
    keys: 0,
    values: 0,
    items: 0,
    is_dir: 0,
    is_file: 0,
    exists: 0,
    is_absolute: 0,
    as_posix: 0,
  }),
);
const MANY = new Map(Object.entries({ get: 2, replace: 2, joinpath: 16 }));

/** `self.name`, as far as it is a method or a property that we know; undefined otherwise. */
export function attribute(self: Value, name: string, directory: string): Value | undefined {
  if (typeof self === 'string') return bind(self, name, STRING.get(name));
  if (self instanceof Map) return bind(self, name, MAPPING.get(name));
  if (!(self instanceof PathValue)) return undefined;
  const found = PATH.get(name)?.(self.text, directory);
  return typeof found === 'function' ? bind(self, name, found) : found;
}

function bind<T>(self: T, name: string, method: Method<T> | undefined): FunctionValue | undefined {
  if (!method) return undefined;
  return new FunctionValue(name, (given) => {
    const most = ARGUMENTS.get(name) ?? MANY.get(name) ?? 1;
    if (given.named.size > 0 || given.positional.length > most) {
      throw templateError(`unsupported: these arguments of ${name}()`);
    }
    return method(self, given);
  });
}
