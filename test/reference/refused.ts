/** A refusal, with a code of docs/sealed-model-format.md, "What a reader refuses, in order". */
export class Refused extends Error {
  readonly code: string;
  constructor(code: string, why: string) {
    super(`${code}: ${why}`);
    this.code = code;
  }
}

/** Is told every intermediate value. */
export type Trace = (name: string, bytes: Uint8Array) => void;
