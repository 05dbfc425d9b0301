/**
 * What a Gramine manifest holds, as TOML gives it: tables are objects without a prototype whose order counts (it is measured),
 * integers are bigint, floats number, dates `ManifestDate`.
 */
export type ManifestTable = Record<string, unknown>;

/** A TOML date or time, kept as the text that Python's `str()` gives for it, because that is what gets written and measured. */
export class ManifestDate {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export const isTable = (value: unknown): value is ManifestTable =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof ManifestDate);

/** A new table: no prototype, so that a key like `__proto__` is a key like any other. */
export const newTable = (entries: Iterable<readonly [string, unknown]> = []): ManifestTable => {
  const table = Object.create(null) as ManifestTable;
  for (const [key, value] of entries) table[key] = value;
  return table;
};

/** JavaScript puts such keys first, in ascending order, wherever they were written (ECMA-262, OrdinaryOwnPropertyKeys). */
export const losesItsPlace = (key: string): boolean => /^(0|[1-9]\d{0,9})$/.test(key) && Number(key) < 2 ** 32 - 1;

/**
 * The text that Python's `repr` gives for a float (float_repr_style "short"): the shortest digits that read back as the same
 * number, as JavaScript's; exponents from 1e16 up and below 1e-4, with a sign and two digits at least.
 */
export function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (Object.is(value, -0)) return '-0.0';
  const [mantissa = '', exponent = ''] = value.toExponential().split('e');
  const power = Number(exponent);
  if (value !== 0 && (power < -4 || power >= 16)) {
    return `${mantissa}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
  }
  // JavaScript itself writes all of these without an exponent but those from 1e-7 down, which were dealt with.
  const text = String(value);
  return text.includes('.') ? text : `${text}.0`;
}
