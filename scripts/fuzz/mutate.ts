/** Changes to bytes, the same for the same numbers: what goes wrong can be made again from a seed. */

/** Numbers below 2^32 from a state (Mulberry's step: fast, and good enough to choose bytes with). */
export type Random = (below: number) => number;

export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** One number of a text and an index: FNV-1a, then mixed so that neighbours differ. */
export function seedOf(text: string, index: number): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash ^= Math.imul(index + 1, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}

const BYTES = [0x00, 0x01, 0x1f, 0x20, 0x30, 0x5f, 0x7f, 0x80, 0x9f, 0xa0, 0xbf, 0xc0, 0xf6, 0xfb, 0xfe, 0xff];
const NUMBERS = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff];
/** What parsers trip over: deep nesting, large numbers, keys of the prototype, markers of other formats. */
const TOKENS = [
  ...['[', '{', '{"a":', '"', '\\', '\\ud800', '\0', '\r\n\r\n', ',', '}', ']', '__proto__', 'constructor', '../', '/'],
  ...['1e999', '-0', '9007199254740993', 'null', 'true', '00000000', 'ffffffff', '-----BEGIN CERTIFICATE-----', '%00'],
  ...['HTTP/1.1 200 OK\r\n', '070701', 'TRAILER!!!', 'ustar', '[[', '"""', '\u00e9', '\u2028'],
].map((text) => Buffer.from(text));
/** Heads of CBOR items and DER elements with lengths that nobody has, and pieces that nest. */
const HEADS = [
  '9bffffffffffffffff',
  'bbffffffffffffffff',
  '5affffffff',
  '7b7fffffffffffffff',
  '3084ffffffff',
  '3080',
  'd28443',
]
  .concat(['81', 'a1', 'c0', '9f', 'bf', '5f', '7f', '3003', 'a003', '020100', '0500'])
  .map((text) => Buffer.from(text, 'hex'));
const MOST = 1 << 20;

/** One to six changes to `seed`; `others` lend pieces. */
export function mutate(seed: Buffer, others: Buffer[], random: Random): Buffer {
  let bytes: Buffer = Buffer.from(seed);
  for (let times = 1 + (random(3) === 0 ? random(6) : random(2)); times > 0; times--) {
    bytes = change(bytes, others, random);
    if (bytes.length > MOST) bytes = bytes.subarray(0, MOST);
  }
  return bytes;
}

function change(bytes: Buffer, others: Buffer[], random: Random): Buffer {
  const at = random(bytes.length + 1);
  const length = 1 + random(random(4) === 0 ? 256 : 8);
  const end = Math.min(at + length, bytes.length);
  const pick = <T>(list: T[]): T => list[random(list.length)] as T;
  const put = (piece: Uint8Array, from = at, to = at) =>
    Buffer.concat([bytes.subarray(0, from), piece, bytes.subarray(to)]);
  switch (random(14)) {
    case 0:
    case 1:
    case 2:
      if (at < bytes.length) bytes[at] = (bytes[at] as number) ^ (1 << random(8));
      return bytes;
    case 3:
      if (at < bytes.length) bytes[at] = random(2) === 0 ? random(256) : pick(BYTES);
      return bytes;
    case 4:
      return number(bytes, at, random(2) === 0 ? pick(NUMBERS) : undefined, random);
    case 5:
      // Small steps hit lengths that are nearly right.
      if (at < bytes.length) bytes[at] = ((bytes[at] as number) + random(9) - 4) & 0xff;
      return bytes;
    case 6:
      return put(Buffer.alloc(0), at, end);
    case 7:
      return put(bytes.subarray(at, end), end, end);
    case 8:
      return bytes.subarray(0, at);
    case 9:
      return put(pick(TOKENS), at, random(2) === 0 ? at : end);
    case 10:
      return put(pick(HEADS), at, random(2) === 0 ? at : end);
    case 11: {
      const other = pick(others);
      const from = random(other.length);
      return put(other.subarray(from, from + length * 4), at, random(2) === 0 ? at : end);
    }
    case 12: {
      if (random(64) > 0) return put(Buffer.alloc(length, pick(BYTES)), at, random(2) === 0 ? at : end);
      const piece = random(2) === 0 ? pick(TOKENS) : pick(HEADS);
      return put(Buffer.alloc(piece.length * random(20_000), piece));
    }
    default: {
      // Two pieces change places.
      const to = Math.min(end + (end - at), bytes.length);
      return Buffer.concat([
        bytes.subarray(0, at),
        bytes.subarray(end, to),
        bytes.subarray(at, end),
        bytes.subarray(to),
      ]);
    }
  }
}

/** Writes a number of 2 or 4 bytes in either order, or one near to what is there. */
function number(bytes: Buffer, at: number, value: number | undefined, random: Random): Buffer {
  const width = random(2) === 0 ? 2 : 4;
  if (at + width > bytes.length) return bytes;
  const little = random(2) === 0;
  const old = little ? bytes.readUIntLE(at, width) : bytes.readUIntBE(at, width);
  const wanted = (value ?? old + random(33) - 16) & (width === 2 ? 0xffff : -1);
  const written = width === 2 ? wanted & 0xffff : wanted >>> 0;
  if (little) bytes.writeUIntLE(written, at, width);
  else bytes.writeUIntBE(written, at, width);
  return bytes;
}
