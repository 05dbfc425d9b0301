import { gunzipSync } from 'node:zlib';
import { isZero } from '../core/bytes.ts';
import { gzipNotes } from './decompress.ts';
import type { Cause, Context } from './types.ts';
import { firstDifference, readSome, type View } from './view.ts';

/** What the first differing bytes of two contents say by themselves. Each clue is a rule that can be checked by looking. */

const NEAR = 512;
const MAX_UNPACKED = 8 << 20;

/** Readable text around an offset, and where in it the offset is. */
interface Run {
  text: string;
  at: number;
}

function runAt(view: View, offset: number): Run {
  const start = Math.max(0, offset - NEAR);
  const bytes = readSome(view, start, 2 * NEAR).toString('latin1');
  const here = offset - start;
  const readable = (i: number) => /[\x20-\x7e]/.test(bytes[i] ?? '');
  let [from, to] = [here, here];
  while (from > 0 && readable(from - 1)) from--;
  while (to < bytes.length && readable(to)) to++;
  return { text: bytes.slice(from, to), at: here - from };
}

/** The match of a pattern that covers the offset. */
function covering({ text, at }: Run, pattern: RegExp): string | null {
  for (const match of text.matchAll(pattern)) {
    if (match.index <= at && at <= match.index + match[0].length) return match[0];
  }
  return null;
}

const PATH = /(?:\/[\w.+@~%-]+){2,}/g;
const TIMES = [
  /\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?/g,
  /(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +)?(?:\d{1,2} +)?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d{1,4}(?: +\d{4})? +\d\d:\d\d(?::\d\d)?(?: +\w+ +\d{4})?/g,
  /\d\d:\d\d:\d\d/g,
  // Seconds since the epoch, of 2017 to 2033.
  /(?<!\d)1[5-9]\d{8}(?!\d)/g,
];

/** The directory that something was built in: two paths, one tail. */
function pathClue(x: Run, y: Run): Cause | null {
  const [a, b] = [covering(x, PATH), covering(y, PATH)];
  if (a === null || b === null || a === b || a.split('/').at(-1) !== b.split('/').at(-1)) return null;
  return { id: 'path', reason: `the content holds a path of the builder: ${a} and ${b}` };
}

function timeClue(x: Run, y: Run): Cause | null {
  for (const pattern of TIMES) {
    const [a, b] = [covering(x, pattern), covering(y, pattern)];
    if (a !== null && b !== null && a !== b) return { id: 'clock', reason: `the content holds a time: ${a} and ${b}` };
  }
  return null;
}

/** Formats that keep a time of their own at a known place. */
function formatClue(a: View, b: View, path: string, offset: number): Cause | null {
  const [x, y] = [readSome(a, 0, 512), readSome(b, 0, 512)];
  const both = (magic: string) => [x, y].every((head) => head.toString('latin1').startsWith(magic));
  if (path.endsWith('.pyc') && offset >= 8 && offset < 12 && x.length > 12 && x.readUInt32LE(4) === 0) {
    return {
      id: 'clock',
      reason: "a Python cache holds its source file's time (PEP 552): compile with unchecked hashes",
    };
  }
  if (both('PK\x03\x04') && offset >= 10 && offset < 14) {
    return { id: 'clock', reason: 'the first member of the zip archive has another time' };
  }
  if (both('!<arch>\n') && offset >= 24 && offset < 36) {
    return { id: 'clock', reason: 'the first member of the ar archive has another time' };
  }
  return both('\x1f\x8b') ? gzipClue(a, b) : null;
}

/** Two gzip files of the same content, or null. */
function gzipClue(a: View, b: View): Cause | null {
  if (Math.max(a.size, b.size) > MAX_UNPACKED) return null;
  try {
    const [p, q] = [a, b].map(unpacked);
    if (!p || !q?.equals(p)) return null;
  } catch {
    return null;
  }
  return gzipCause(readSome(a, 0, 512), readSome(b, 0, 512));
}

/** Null where more follows than one stream: zlib would pass over it in silence. */
function unpacked(view: View): Buffer | null {
  const bytes = readSome(view, 0, view.size);
  const options = { maxOutputLength: MAX_UNPACKED, info: true } as const;
  const { buffer, engine } = gunzipSync(bytes, options) as unknown as {
    buffer: Buffer;
    engine: { bytesWritten: number };
  };
  return isZero(bytes.subarray(engine.bytesWritten)) ? buffer : null;
}

/** Why two compressed forms of one content differ, by what their headers say. */
export function gzipCause(a: Buffer, b: Buffer): Cause {
  const [x, y] = [gzipNotes(a), gzipNotes(b)];
  const other = x.flatMap(({ what, value }, i) => (value === y[i]?.value ? [] : [{ what, a: value, b: y[i]?.value }]));
  const said = other.map(({ what, a, b }) => `${what} ${a} and ${b}`).join(', ');
  const same = 'both unpack to the same bytes';
  if (other.length > 0 && other.every(({ what }) => what === 'time')) {
    return { id: 'clock', reason: `${same}; the gzip headers differ: ${said} (gzip -n leaves it out)` };
  }
  if (other.length > 0 && other.every(({ what }) => what === 'name' || what === 'time')) {
    return { id: 'path', reason: `${same}; the gzip headers differ: ${said} (gzip -n leaves it out)` };
  }
  const header = said === '' ? 'with the same header' : said;
  return { id: 'compressor', reason: `${same}, compressed otherwise: ${header}` };
}

/** The clue in two contents at their first difference, or null. */
export const contentClue = (a: View, b: View, path: string, { offset }: Context): Cause | null => {
  const format = formatClue(a, b, path, offset);
  if (format) return format;
  const [x, y] = [runAt(a, offset), runAt(b, offset)];
  return timeClue(x, y) ?? pathClue(x, y);
};

/** Of an x86 kernel: what `file` prints (Documentation/arch/x86/boot.rst: HdrS, kernel_version). */
export function kernelVersion(view: View): string | null {
  const head = readSome(view, 0, 0x8000);
  if (head.length < 0x210 || head.toString('latin1', 0x202, 0x206) !== 'HdrS') return null;
  const at = head.readUInt16LE(0x20e);
  if (at === 0 || at + 0x200 >= head.length) return null;
  const text = head.toString('latin1', at + 0x200, at + 0x400);
  return text.split('\0', 1)[0] || null;
}

/** Two views with no differing byte. */
export const sameBytes = (a: View, b: View): boolean => a.size === b.size && firstDifference(a, b) === -1;
