// docs/sealed-model-format.md, "Shares": Shamir's secret sharing over GF(2^8) with the polynomial 0x11B.

function multiply(a: number, b: number): number {
  let product = 0;
  for (let bit = 0; bit < 8; bit++) {
    if ((b >> bit) & 1) product ^= a;
    a = (a << 1) ^ (a & 0x80 ? 0x11b : 0);
  }
  return product;
}

function inverse(a: number): number {
  for (let b = 1; b < 256; b++) if (multiply(a, b) === 1) return b;
  throw new RangeError('zero has no inverse');
}

/** `xs` says how many shares there are and where; `coefficients[k]` are those of x^(k+1), a byte for each byte of the secret. */
export const split = (secret: Uint8Array, xs: number[], coefficients: Uint8Array[]): Uint8Array[] =>
  xs.map((x) => {
    const values = Array.from(secret, (byte, i) => {
      let value = byte;
      let power = 1;
      for (const coefficient of coefficients) {
        power = multiply(power, x);
        value ^= multiply(coefficient[i] ?? 0, power);
      }
      return value;
    });
    return new Uint8Array([...values, x]);
  });

/** The secret, if all are shares of one; else something. Null where two have the same x, or one has x = 0. */
export function combine(shares: Uint8Array[]): Uint8Array | null {
  const xs = shares.map((share) => share.at(-1) ?? 0);
  if (xs.includes(0) || new Set(xs).size !== xs.length) return null;
  const weights = xs.map((x, i) =>
    xs.reduce((weight, other, j) => (i === j ? weight : multiply(weight, multiply(other, inverse(other ^ x)))), 1),
  );
  const length = (shares[0]?.length ?? 1) - 1;
  return Uint8Array.from({ length }, (_, i) =>
    shares.reduce((sum, share, j) => sum ^ multiply(share[i] ?? 0, weights[j] ?? 0), 0),
  );
}
