import { compareValues, isEqual } from './template-operators.ts';
import {
  type Arguments,
  isTrue,
  PathValue,
  pythonText,
  templateError,
  typeName,
  UndefinedValue,
  type Value,
} from './template-values.ts';
import { pythonFloat } from './toml-values.ts';

type Filter = (value: Value, given: Arguments) => Value;

/** Jinja's filters, as far as manifests need them; each does what jinja2 3.1 does (jinja2/filters.py), or refuses. */
const FILTERS = new Map<string, Filter>([
  ['default', withDefault],
  ['d', withDefault],
  ['int', (value, given) => toInteger(value, or(argument(given, 0, 'default'), 0n))],
  ['float', (value) => toFloat(value)],
  ['string', (value) => pythonText(value)],
  ['upper', (value) => pythonText(value).toUpperCase()],
  ['lower', (value) => pythonText(value).toLowerCase()],
  ['trim', (value, given) => strip(pythonText(value), given.positional[0])],
  ['replace', (value, given) => replaceAll(pythonText(value), given)],
  ['length', lengthOf],
  ['count', lengthOf],
  ['list', (value) => [...items(value)]],
  ['first', (value) => or(items(value)[0], new UndefinedValue('the first item of nothing'))],
  ['last', (value) => or(items(value).at(-1), new UndefinedValue('the last item of nothing'))],
  ['reverse', (value) => [...items(value)].reverse()],
  [
    'join',
    (value, given) =>
      items(value)
        .map(pythonText)
        .join(pythonText(or(argument(given, 0, 'd'), ''))),
  ],
  ['sort', (value, given) => sorted(items(value), isTrue(or(argument(given, 0, 'reverse'), false)), given)],
  ['unique', (value, given) => unique(items(value), given)],
  ['tojson', (value) => toJson(value)],
]);

export function applyFilter(name: string, value: Value, given: Arguments): Value {
  const filter = FILTERS.get(name);
  if (!filter) throw templateError(`unsupported: the filter "${name}"`, `supported: ${[...FILTERS.keys()].join(', ')}`);
  const allowed = NAMED.get(name) ?? [];
  const wrong = [...given.named.keys()].find((key) => !allowed.includes(key));
  if (wrong !== undefined || given.positional.length > (POSITIONAL.get(name) ?? 0)) {
    throw templateError(
      `unsupported: ${wrong === undefined ? 'so many arguments' : `the argument "${wrong}"`} of the filter "${name}"`,
    );
  }
  return filter(value, given);
}

const NAMED = new Map([
  ['default', ['default_value', 'boolean']],
  ['d', ['default_value', 'boolean']],
  ['int', ['default']],
  ['join', ['d']],
  ['sort', ['reverse', 'case_sensitive']],
  ['unique', ['case_sensitive']],
]);
const POSITIONAL = new Map(
  Object.entries({ default: 2, d: 2, int: 1, trim: 1, replace: 3, join: 1, sort: 2, unique: 1 }),
);

/** None (null) is an argument like any other. */
const argument = (given: Arguments, index: number, name: string): Value | undefined =>
  given.positional.length > index ? given.positional[index] : given.named.get(name);

const or = (value: Value | undefined, fallback: Value): Value => (value === undefined ? fallback : value);

function withDefault(value: Value, given: Arguments): Value {
  const fallback = or(argument(given, 0, 'default_value'), '');
  if (value instanceof UndefinedValue) return fallback;
  return isTrue(or(argument(given, 1, 'boolean'), false)) && !isTrue(value) ? fallback : value;
}

/** int(x), or int(float(x)), or the default, as Jinja tries. */
function toInteger(value: Value, fallback: Value): Value {
  if (typeof value === 'bigint') return value;
  if (typeof value === 'boolean') return BigInt(value);
  if (typeof value === 'string' && /^[+-]?\d{1,300}(_\d+)*$/.test(strip(value))) {
    return BigInt(strip(value).replaceAll('_', '').replace(/^\+/, ''));
  }
  const float = typeof value === 'number' ? value : typeof value === 'string' ? parseFloat64(value) : Number.NaN;
  if (float === Infinity || float === -Infinity)
    throw templateError('expected a number that is an integer, found infinity');
  return Number.isNaN(float) ? fallback : BigInt(Math.trunc(float));
}

function toFloat(value: Value): Value {
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint' || typeof value === 'boolean') return Number(value);
  return typeof value === 'string' ? (Number.isNaN(parseFloat64(value)) ? 0 : parseFloat64(value)) : 0;
}

const parseFloat64 = (text: string): number =>
  /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(strip(text)) ? Number(strip(text)) : Number.NaN;

/** What Python's str.strip() takes off; JavaScript's trim() differs by a few. */
const SPACE = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const SPACES = { left: new RegExp(`^[${SPACE}]+`), one: new RegExp(`[${SPACE}]`) };

/** str.strip([chars]), or one side of it. */
export function strip(text: string, chars: Value = null, sides: 'both' | 'left' | 'right' = 'both'): string {
  if (chars !== null && typeof chars !== 'string')
    throw templateError(`expected characters to strip, found ${typeName(chars)}`);
  const points = [...text];
  const drop = (c: string | undefined) =>
    c !== undefined && (chars === null ? SPACES.one.test(c) : [...chars].includes(c));
  let [start, end] = [0, points.length];
  if (sides !== 'right') while (start < end && drop(points[start])) start++;
  if (sides !== 'left') while (end > start && drop(points[end - 1])) end--;
  return points.slice(start, end).join('');
}

export const splitSpaces = (text: string): string[] =>
  text.split(new RegExp(`[${SPACE}]+`)).filter((part) => part !== '');

/** str.replace(old, new[, count]). */
export function replaceAll(text: string, { positional, named }: Arguments): string {
  const [from, to, count] = positional;
  if (named.size > 0 || typeof from !== 'string' || typeof to !== 'string' || count !== undefined || from === '') {
    throw templateError('unsupported: replace with anything but two strings, the first of them not empty');
  }
  return text.split(from).join(to);
}

/** What a loop goes through: the items of a list, the keys of a dict, the characters of a string. */
export function items(value: Value): Value[] {
  if (Array.isArray(value)) return value;
  if (value instanceof Map) return [...value.keys()];
  if (typeof value === 'string') return [...value];
  throw templateError(`expected a list, a dict or a string, found ${typeName(value)}`);
}

function lengthOf(value: Value): Value {
  return BigInt(items(value).length);
}

const fold = (given: Arguments, index: number) => {
  const sensitive = isTrue(argument(given, index, 'case_sensitive') ?? false);
  return (value: Value): Value => (typeof value === 'string' && !sensitive ? value.toLowerCase() : value);
};

function sorted(values: Value[], reverse: boolean, given: Arguments): Value[] {
  const key = fold(given, 1);
  const compare = (a: Value, b: Value) => compareValues(key(a), key(b));
  // Both keep equal items in their order, as Python's reverse=True does.
  return [...values].sort(reverse ? (a, b) => compare(b, a) : compare);
}

function unique(values: Value[], given: Arguments): Value[] {
  const key = fold(given, 0);
  const seen = new Set<string>();
  return values.filter((value) => {
    const mark = key(value);
    if (typeof mark !== 'string') throw templateError('unsupported: the filter "unique" of anything but strings');
    return !seen.has(mark) && seen.add(mark);
  });
}

/** json.dumps with sorted keys and ASCII only, and what HTML minds escaped (jinja2/utils.py, htmlsafe_json_dumps). */
function toJson(value: Value): string {
  const json = (v: Value): string => {
    if (v === null) return 'null';
    if (typeof v === 'boolean' || typeof v === 'bigint') return String(v);
    if (typeof v === 'number') return pythonFloat(v).replace('inf', 'Infinity').replace('nan', 'NaN');
    if (typeof v === 'string') return JSON.stringify(v).replace(/[\x7f-\uffff]/g, escape16);
    if (Array.isArray(v)) return `[${v.map(json).join(', ')}]`;
    if (!(v instanceof Map))
      throw templateError(`expected a value for JSON, found ${v instanceof PathValue ? 'a path' : typeName(v)}`);
    const keys = [...v.keys()].sort((a, b) => compareValues(a, b));
    return `{${keys.map((k) => `${json(k)}: ${json(v.get(k) ?? null)}`).join(', ')}}`;
  };
  return json(value).replace(/[<>&']/g, escape16);
}

const escape16 = (c: string): string => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** Jinja's tests without arguments (`x is defined`). */
export function applyTest(name: string, value: Value): boolean {
  const test = TESTS.get(name);
  if (!test) throw templateError(`unsupported: the test "${name}"`, `supported: ${[...TESTS.keys()].join(', ')}`);
  return test(value);
}

const TESTS = new Map<string, (value: Value) => boolean>([
  ['defined', (v) => !(v instanceof UndefinedValue)],
  ['undefined', (v) => v instanceof UndefinedValue],
  ['none', (v) => v === null],
  ['string', (v) => typeof v === 'string'],
  ['integer', (v) => typeof v === 'bigint'],
  ['float', (v) => typeof v === 'number'],
  ['number', (v) => typeof v === 'bigint' || typeof v === 'number' || typeof v === 'boolean'],
  ['boolean', (v) => typeof v === 'boolean'],
  ['true', (v) => v === true],
  ['false', (v) => v === false],
  ['mapping', (v) => v instanceof Map],
  ['odd', (v) => isEqual(parity(v), 1n)],
  ['even', (v) => isEqual(parity(v), 0n)],
]);

function parity(value: Value): bigint {
  if (typeof value !== 'bigint') throw templateError(`expected an integer, found ${typeName(value)}`);
  return ((value % 2n) + 2n) % 2n;
}
