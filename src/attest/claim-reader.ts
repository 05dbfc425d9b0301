/** Text claims are names and versions; longer is nobody's honest one. */
const TEXT_LIMIT = 1024;

/** Why a claim was refused: the name of the rule and a stable code. */
export class ClaimFailure extends Error {
  readonly check: string;
  readonly code: string;
  constructor(check: string, code: string, message: string) {
    super(message);
    this.check = check;
    this.code = code;
  }
}

/** Takes claims out of the map one by one, so that what is left at the end is what nobody knows. */
export class ClaimReader {
  readonly #map: Map<unknown, unknown>;

  constructor(map: Map<unknown, unknown>) {
    this.#map = map;
  }

  has(key: number): boolean {
    return this.#map.has(key);
  }

  take(key: number): unknown {
    if (!this.#map.has(key)) throw new ClaimFailure('CLAIMS', 'MISSING_CLAIM', `claim ${key} is missing`);
    const value = this.#map.get(key);
    this.#map.delete(key);
    return value;
  }

  text(key: number, name: string): string {
    const value = this.take(key);
    if (typeof value !== 'string') throw new ClaimFailure('CLAIMS', 'BAD_CLAIM_TYPE', `${name}: expected text`);
    const length = Buffer.byteLength(value);
    if (length === 0 || length > TEXT_LIMIT) {
      throw new ClaimFailure(
        'CLAIMS',
        'BAD_TEXT_LENGTH',
        `${name}: expected 1 to ${TEXT_LIMIT} bytes, found ${length}`,
      );
    }
    return value;
  }

  /** Beyond 2^53 - 1 is refused: no honest counter or clock gets there. */
  uint(key: number, name: string): number {
    const value = this.take(key);
    if (!Number.isSafeInteger(value) || (value as number) < 0) {
      throw new ClaimFailure('CLAIMS', 'BAD_CLAIM_TYPE', `${name}: expected an unsigned integer below 2^53`);
    }
    return value as number;
  }

  bytes(key: number, name: string, least: number, most: number, check: string, code: string): Uint8Array {
    const value = this.take(key);
    if (!(value instanceof Uint8Array)) {
      throw new ClaimFailure('CLAIMS', 'BAD_CLAIM_TYPE', `${name}: expected a byte string`);
    }
    if (value.length < least || value.length > most) {
      const range = least === most ? `${least}` : `${least} to ${most}`;
      throw new ClaimFailure(check, code, `${name}: expected ${range} bytes, found ${value.length}`);
    }
    return value;
  }

  optionalBytes(key: number, name: string, least: number, most: number): Uint8Array | undefined {
    return this.has(key) ? this.bytes(key, name, least, most, 'NONCE', 'BAD_NONCE_LENGTH') : undefined;
  }

  hash(key: number, name: string): Uint8Array {
    return this.bytes(key, name, 32, 32, 'HASH', 'BAD_HASH_LENGTH');
  }

  oneOf<T extends string>(key: number, name: string, values: readonly T[], check: string, code: string): T {
    const value = this.take(key);
    const known = values.find((candidate) => candidate === value);
    if (known === undefined) throw new ClaimFailure(check, code, `${name}: expected ${values.join(' or ')}`);
    return known;
  }

  end(): void {
    const [unknown] = this.#map.keys();
    if (unknown !== undefined) {
      throw new ClaimFailure('CLAIMS', 'UNKNOWN_CLAIM', `unknown claim ${JSON.stringify(String(unknown))}`);
    }
  }
}
