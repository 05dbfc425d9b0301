/**
 * JSON as serde_json 1.0 prints it (`to_string_pretty`), from text: keys of free objects in the order of their bytes,
 * integers of 64 bits exactly, floats in the form of the ryu crate ("1.0", "1e30"). JavaScript's own objects cannot say
 * that: they put keys like "10" first and round integers.
 */

/** A number, as serde_json would write it. */
class NumberText {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** Printed in this order, even the same key twice, as a flattened struct is. */
export class Entries {
  readonly list: [key: string, value: unknown][];
  constructor(list: [key: string, value: unknown][]) {
    this.list = list;
  }
}

type Reviver = (this: unknown, key: string, value: unknown, context: { source?: string }) => unknown;
type ParseWithSource = (text: string, reviver: Reviver) => unknown;

/** serde_json's own limit. */
const MAX_DEPTH = 128;

/** Parses what `prettyJson` prints. Throws a SyntaxError for what is no JSON, nested too deeply, or no f64. */
export function parseJsonExactly(text: string): unknown {
  requireShallow(text);
  return (JSON.parse as ParseWithSource)(text, (_, value, { source }) =>
    typeof value === 'number' && source !== undefined ? new NumberText(numberText(source, value)) : value,
  );
}

/** Two spaces to the level. Plain objects have their keys sorted; `Entries` keep their order. */
export function prettyJson(value: unknown, indent = ''): string {
  const inner = `${indent}  `;
  const block = (open: string, items: string[], close: string) =>
    items.length === 0 ? open + close : `${open}\n${items.map((item) => inner + item).join(',\n')}\n${indent}${close}`;
  if (value instanceof NumberText) return value.text;
  if (Array.isArray(value))
    return block(
      '[',
      value.map((item) => prettyJson(item, inner)),
      ']',
    );
  if (typeof value !== 'object' || value === null) return quote(value);
  const entries = value instanceof Entries ? value.list : Object.entries(value).sort(byKey);
  return block(
    '{',
    entries.map(([key, item]) => `${quote(key)}: ${prettyJson(item, inner)}`),
    '}',
  );
}

const byKey = ([a]: [string, unknown], [b]: [string, unknown]) => Buffer.compare(Buffer.from(a), Buffer.from(b));

/**
 * A string, boolean or null. The signs that could drive a terminal or reorder a line are escaped where serde_json leaves
 * them: the JSON value is the same.
 */
const quote = (value: unknown): string =>
  JSON.stringify(value).replace(/[\u007f-\u009f\p{Cf}]/gu, (sign) =>
    [...Array(sign.length).keys()].map((i) => `\\u${sign.charCodeAt(i).toString(16).padStart(4, '0')}`).join(''),
  );

function numberText(source: string, value: number): string {
  if (/^-?\d+$/.test(source) && source !== '-0') {
    const integer = BigInt(source);
    if (integer >= -(2n ** 63n) && integer < 2n ** 64n) return integer.toString();
  }
  if (!Number.isFinite(value)) throw new SyntaxError('number out of range');
  if (value === 0) return Object.is(value, -0) ? '-0.0' : '0.0';
  const [mantissa = '', exponent = ''] = Math.abs(value).toExponential().split('e');
  const digits = mantissa.replace('.', '');
  // Where the point stands, counted from the first digit.
  const point = Number(exponent) + 1;
  return (value < 0 ? '-' : '') + ryu(digits, point);
}

/** The pretty form of the ryu crate (src/pretty/mod.rs). */
function ryu(digits: string, point: number): string {
  if (point > 0 && point <= 16) {
    return digits.length <= point
      ? `${digits.padEnd(point, '0')}.0`
      : `${digits.slice(0, point)}.${digits.slice(point)}`;
  }
  if (point > -5 && point <= 0) return `0.${'0'.repeat(-point)}${digits}`;
  const rest = digits.slice(1);
  return `${digits[0]}${rest === '' ? '' : `.${rest}`}e${point - 1}`;
}

/** Recursion is bounded before it starts: hostile text can nest as deep as it is long. */
function requireShallow(text: string): void {
  let depth = 0;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[{\]}]/gs)) {
    if (token === '[' || token === '{') depth++;
    else if (token === ']' || token === '}') depth--;
    if (depth > MAX_DEPTH) throw new SyntaxError('nested too deeply');
  }
}
