import { parse, TomlDate } from 'smol-toml';
import { ManifestDate } from './toml-values.ts';

/** What can be a date or a time in TOML; what stands in a string or a comment is found too, which only makes us careful. */
const LITERALS =
  /(?:\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:[Zz]|[+-]\d{2}:\d{2})?)?)|(?:\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)/g;

/**
 * Python's text for the dates of a document. The TOML parser keeps a date as a JavaScript Date: milliseconds, and February 30th
 * becomes March 2nd. So each date is looked up among the literals of the text that the parser reads as this very date;
 * where they disagree about Python's text, or Python would refuse it, there is none (null): wrong bytes are never measured.
 */
export function pythonDates(source: string): (date: TomlDate) => ManifestDate | null {
  const known = new Map<string, string | null>();
  for (const [literal] of source.matchAll(LITERALS)) {
    const date = readLiteral(literal);
    if (date === null) continue;
    const text = pythonText(literal);
    const key = identity(date);
    known.set(key, known.has(key) && known.get(key) !== text ? null : text);
  }
  return (date) => {
    const text = known.get(identity(date)) ?? null;
    return text === null ? null : new ManifestDate(text);
  };
}

const identity = (date: TomlDate): string =>
  `${date.isDate()} ${date.isTime()} ${date.isLocal()} ${date.toISOString()}`;

function readLiteral(literal: string): TomlDate | null {
  try {
    const { date } = parse(`date = ${literal}`);
    return date instanceof TomlDate ? date : null;
  } catch {
    return null;
  }
}

/** `str()` of what tomli makes of the literal (tomli/_re.py), or null where tomli or Python's datetime refuse it. */
function pythonText(literal: string): string | null {
  const match =
    /^(?:(\d{4})-(\d{2})-(\d{2}))?[Tt ]?(?:(\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,6})\d*)?)?(?:[Zz]|([+-])(\d{2}):(\d{2}))?$/.exec(
      literal,
    );
  if (!match) return null;
  const [, year, month, day, hour, minute, second, fraction, sign, offsetHour, offsetMinute] = match;
  const parts: string[] = [];
  if (year !== undefined) {
    const days = new Date(Date.UTC(2000 + (Number(year) % 400), Number(month), 0)).getUTCDate();
    if (Number(year) < 1 || Number(month) < 1 || Number(month) > 12) return null;
    if (Number(day) < 1 || Number(day) > days) return null;
    parts.push(`${year}-${month}-${day}`);
  }
  if (hour !== undefined) {
    if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return null;
    const micros = (fraction ?? '').padEnd(6, '0');
    parts.push(`${hour}:${minute}:${second}${micros === '000000' ? '' : `.${micros}`}`);
  }
  return parts.join(' ') + offset(literal, sign, offsetHour, offsetMinute);
}

function offset(literal: string, sign = '', hour = '', minute = ''): string {
  if (sign === '') return /[Zz]$/.test(literal) ? '+00:00' : '';
  return hour === '00' && minute === '00' ? '+00:00' : `${sign}${hour}:${minute}`;
}
