// Writes DER, so that tests can make certificates that no honest library would. The product writes none itself.

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  sequence: 0x30,
  set: 0x31,
  utcTime: 0x17,
  generalizedTime: 0x18,
} as const;

/** One item. */
export function der(tag: number, ...contents: Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  if (length > 0xffff) throw new RangeError('too long for one DER item here');
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

/** An object identifier's content from its dotted form; arcs may be as large as a UUID (X.667). */
export function encodeOid(dotted: string): Buffer {
  const [first = 0n, second = 0n, ...rest] = dotted.split('.').map(BigInt);
  return Buffer.from(
    [first * 40n + second, ...rest].flatMap((arc) => {
      const digits = [Number(arc & 0x7fn)];
      for (let left = arc >> 7n; left > 0n; left >>= 7n) digits.unshift(Number(left & 0x7fn) | 0x80);
      return digits;
    }),
  );
}
