import { usageError } from '../core/errors.ts';
import { pythonFloat } from './toml-values.ts';

/**
 * What a template computes with: Python's values. None of them is an object of the host: names are looked up in Maps and methods
 * in tables of ours (template-methods.ts), never as JavaScript properties.
 */
export type Value =
  | string
  | bigint
  | number
  | boolean
  | null
  | Value[]
  | Map<string, Value>
  | PathValue
  | FunctionValue
  | UndefinedValue;

/** A pathlib.Path. */
export class PathValue {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export type Arguments = { positional: Value[]; named: Map<string, Value> };

/** Something that can be called. `text` is what it prints as; a function that is printed is a mistake. */
export class FunctionValue {
  readonly name: string;
  readonly call: (given: Arguments) => Value;
  readonly text: PathValue | undefined;
  constructor(name: string, call: (given: Arguments) => Value, text?: PathValue) {
    this.name = name;
    this.call = call;
    this.text = text;
  }
}

/** jinja2.StrictUndefined: may be asked for with `is defined` and `default`, anything else is an error. */
export class UndefinedValue {
  readonly what: string;
  constructor(what: string) {
    this.what = what;
  }
}

/** Arrays that Python prints in another way: tuples with parentheses; ranges and views as what we cannot print. */
const tuples = new WeakSet<Value[]>();
const views = new WeakSet<Value[]>();
export const tuple = (items: Value[]): Value[] => {
  tuples.add(items);
  return items;
};
export const view = (items: Value[]): Value[] => {
  views.add(items);
  return items;
};
export const isTuple = (items: Value[]): boolean => tuples.has(items);

export const templateError = (message: string, hint?: string) =>
  usageError('ERR_GRAMINE_TEMPLATE', message, hint === undefined ? {} : { hint });

/** Throws for an undefined value, which nothing but `is defined` and `default` takes. */
export function defined(value: Value): Exclude<Value, UndefinedValue> {
  if (value instanceof UndefinedValue) {
    throw templateError(
      `expected every name of the template to be defined, found ${value.what}`,
      'define a name with -D NAME=VALUE',
    );
  }
  return value;
}

/** The type's name in Python, for error texts. */
export function typeName(value: Value): string {
  if (value === null) return 'None';
  if (Array.isArray(value)) return isTuple(value) ? 'a tuple' : 'a list';
  if (value instanceof Map) return 'a dict';
  if (value instanceof PathValue) return 'a path';
  if (value instanceof FunctionValue) return 'a function';
  if (value instanceof UndefinedValue) return value.what;
  const names = { string: 'a string', bigint: 'an integer', number: 'a float', boolean: 'a boolean' };
  return names[typeof value as keyof typeof names];
}

/** Python's truth. */
export function isTrue(value: Value): boolean {
  const known = defined(value);
  if (Array.isArray(known)) return known.length > 0;
  if (known instanceof Map) return known.size > 0;
  if (typeof known === 'number') return known !== 0;
  return Boolean(known);
}

const weights = new WeakMap<object, number>();

/** What printing a value takes at least, in characters. Known of what a list holds, it costs a look at each item. */
export function weight(value: Value): number {
  if (typeof value === 'string') return value.length + 1;
  if (!Array.isArray(value) && !(value instanceof Map)) return 1;
  const known = weights.get(value);
  if (known !== undefined) return known;
  let sum = 1;
  if (Array.isArray(value)) for (const item of value) sum += weight(item);
  else for (const [key, item] of value) sum += weight(key) + weight(item);
  weights.set(value, sum);
  return sum;
}

/** Python's str(). */
export function pythonText(value: Value): string {
  const known = defined(value);
  if (typeof known === 'string') return known;
  if (known instanceof PathValue) return known.text;
  if (known instanceof FunctionValue && known.text) return known.text.text;
  return pythonRepr(known);
}

/** Python's repr(). */
export function pythonRepr(value: Value): string {
  const known = defined(value);
  if (known === null) return 'None';
  if (typeof known === 'boolean') return known ? 'True' : 'False';
  if (typeof known === 'bigint') return String(known);
  if (typeof known === 'number') return pythonFloat(known);
  if (typeof known === 'string') return stringRepr(known);
  if (known instanceof PathValue) return `PosixPath(${stringRepr(known.text)})`;
  if (known instanceof Map) {
    return `{${[...known].map(([key, item]) => `${stringRepr(key)}: ${pythonRepr(item)}`).join(', ')}}`;
  }
  if (known instanceof FunctionValue || views.has(known)) {
    throw templateError(
      `expected a value to print, found ${typeName(known)}`,
      'make a list of it with the filter "list"',
    );
  }
  const items = known.map(pythonRepr);
  if (isTuple(known)) return items.length === 1 ? `(${items[0]},)` : `(${items.join(', ')})`;
  return `[${items.join(', ')}]`;
}

const REPR_ESCAPES: Record<string, string> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function stringRepr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const body = text.replace(/[\\\p{C}\p{Z}'"]/gu, (c) => {
    if (c === ' ' || ((c === "'" || c === '"') && c !== quote)) return c;
    if (c === quote) return `\\${c}`;
    const code = c.codePointAt(0) ?? 0;
    const hex = code.toString(16);
    if (code < 0x100) return REPR_ESCAPES[c] ?? `\\x${hex.padStart(2, '0')}`;
    return code < 0x10000 ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
  });
  return quote + body + quote;
}
