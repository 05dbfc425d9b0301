/**
 * CRC-32 (IEEE, as zlib's) of two runs of bytes put together, from the CRC of each: so a file's header can be written last.
 * A CRC is the remainder of a polynomial over GF(2); appending `length` bytes multiplies the first one's by x^(8 * length).
 */
export const crc32Combine = (first: number, second: number, length: number): number =>
  (multiply(power(length), first) ^ second) >>> 0;

/** Bits are reflected: the highest is the coefficient of x^0. */
const POLYNOMIAL = 0xedb88320;
const ONE = 0x80000000;
const X_TO_THE_8 = 0x00800000;

function multiply(a: number, b: number): number {
  let product = 0;
  let shifted = b;
  for (let i = 31; i >= 0; i--) {
    if ((a >>> i) & 1) product ^= shifted;
    shifted = shifted & 1 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return product >>> 0;
}

/** x^(8 * n) modulo the polynomial. */
function power(n: number): number {
  let result = ONE;
  let square = X_TO_THE_8;
  // Lengths go beyond 32 bits: no bit operators on them.
  for (let left = n; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) result = multiply(result, square);
    square = multiply(square, square);
  }
  return result;
}
