import {
  FunctionValue,
  isTuple,
  PathValue,
  pythonText,
  templateError,
  tuple,
  typeName,
  type Value,
} from './template-values.ts';
import { childPath, uriPath } from './trusted-files-path.ts';

/** Python's operators. What Python refuses is refused: a template that mixes types has another meaning there, or none. */
export function operate(operator: string, left: Value, right: Value): Value {
  switch (operator) {
    case '==':
      return isEqual(left, right);
    case '!=':
      return !isEqual(left, right);
    case '<':
      return compareValues(left, right) < 0;
    case '>':
      return compareValues(left, right) > 0;
    case '<=':
      return compareValues(left, right) <= 0;
    case '>=':
      return compareValues(left, right) >= 0;
    case 'in':
      return isIn(left, right);
    case 'not in':
      return !isIn(left, right);
    case '~':
      return pythonText(left) + pythonText(right);
    case '+':
      if (typeof left === 'string' && typeof right === 'string') return left + right;
      if (Array.isArray(left) && Array.isArray(right) && isTuple(left) === isTuple(right)) {
        return isTuple(left) ? tuple([...left, ...right]) : [...left, ...right];
      }
      break;
    case '/':
      if (pathOf(left) && (typeof right === 'string' || right instanceof PathValue)) {
        return joinPath(pathOf(left) as PathValue, pythonText(right));
      }
  }
  return arithmetic(operator, left, right);
}

const pathOf = (value: Value): PathValue | undefined =>
  value instanceof PathValue ? value : value instanceof FunctionValue ? value.text : undefined;

/** Path.__truediv__: an absolute path replaces what is before it. */
export const joinPath = (path: PathValue, more: string): PathValue =>
  new PathValue(more.startsWith('/') ? normalPath(more) : normalPath(childPath(path.text, more)));

export const normalPath = (path: string): string => uriPath(`file:${path}`);

const isNumber = (value: Value): value is bigint | number | boolean =>
  typeof value === 'bigint' || typeof value === 'number' || typeof value === 'boolean';
const integer = (value: bigint | number | boolean): bigint | number =>
  typeof value === 'boolean' ? BigInt(value) : value;

export function isEqual(left: Value, right: Value): boolean {
  // biome-ignore lint/suspicious/noDoubleEquals: 1 == 1.0 is what Python says too
  if (isNumber(left) && isNumber(right)) return integer(left) == integer(right);
  if (left instanceof PathValue && right instanceof PathValue) return left.text === right.text;
  if (Array.isArray(left) && Array.isArray(right)) {
    return (
      isTuple(left) === isTuple(right) &&
      left.length === right.length &&
      left.every((v, i) => isEqual(v, right[i] ?? null))
    );
  }
  if (left instanceof Map && right instanceof Map) {
    return left.size === right.size && [...left].every(([k, v]) => right.has(k) && isEqual(v, right.get(k) ?? null));
  }
  return left === right;
}

/** Negative, zero or positive. Strings by code point. */
export function compareValues(left: Value, right: Value): number {
  if (typeof left === 'string' && typeof right === 'string')
    return Buffer.compare(Buffer.from(left), Buffer.from(right));
  if (isNumber(left) && isNumber(right)) {
    const [a, b] = [integer(left), integer(right)];
    // Not a number is not in any order; Python says false to every question.
    if (Number.isNaN(a) || Number.isNaN(b)) throw templateError('expected numbers to compare, found nan');
    return a < b ? -1 : a > b ? 1 : 0;
  }
  throw templateError(`expected two strings or two numbers to compare, found ${typeName(left)} and ${typeName(right)}`);
}

function isIn(item: Value, container: Value): boolean {
  if (typeof container === 'string' && typeof item === 'string') return container.includes(item);
  if (Array.isArray(container)) return container.some((other) => isEqual(item, other));
  if (container instanceof Map) return typeof item === 'string' && container.has(item);
  throw templateError(`expected a string, a list or a dict after "in", found ${typeName(container)}`);
}

function arithmetic(operator: string, left: Value, right: Value): Value {
  if (!isNumber(left) || !isNumber(right)) {
    throw templateError(`expected operands that fit "${operator}", found ${typeName(left)} and ${typeName(right)}`);
  }
  const [a, b] = [integer(left), integer(right)];
  if (typeof a === 'bigint' && typeof b === 'bigint' && operator !== '/') return integers(operator, a, b);
  return floats(operator, Number(a), Number(b));
}

function integers(operator: string, a: bigint, b: bigint): Value {
  if ((operator === '//' || operator === '%') && b === 0n) throw templateError('expected no division by zero');
  const remainder = b === 0n ? 0n : ((a % b) + b) % b;
  switch (operator) {
    case '+':
      return bounded(a + b);
    case '-':
      return bounded(a - b);
    case '*':
      return bounded(a * b);
    case '//':
      return (a - remainder) / b;
    case '%':
      return remainder;
    case '**':
      if (b >= 0n && b <= 64n) return bounded(a ** b);
  }
  throw templateError(`unsupported: "${operator}" of these integers`);
}

/** Far more than a manifest can hold (64 bits), so that no product grows for ever. */
function bounded(value: bigint): bigint {
  if (value > 1n << 1024n || value < -(1n << 1024n)) throw templateError('expected integers of at most 1024 bits');
  return value;
}

function floats(operator: string, a: number, b: number): Value {
  if (operator === '/' && b === 0) throw templateError('expected no division by zero');
  if (operator === '+') return a + b;
  if (operator === '-') return a - b;
  if (operator === '*') return a * b;
  if (operator === '/') return a / b;
  throw templateError(`unsupported: "${operator}" of floats`);
}
