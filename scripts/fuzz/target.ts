/** A valid input of a parser, and how to tell that the parser takes an input for good. */
export interface Seed {
  name: string;
  bytes: Buffer;
  /**
   * Parses, and verifies where there is something to verify. False for a verdict that is not a pass; AtomaError is as good.
   * Throws for any other error, and where an invariant of the parser does not hold: those are findings.
   */
  accepts(input: Buffer): boolean | Promise<boolean>;
  /** True for changed bytes that may be accepted: what changed is nothing that anybody reads. */
  means?(input: Buffer): boolean;
}

export interface Target {
  name: string;
  /** What is signed or has a checksum: no changed bytes may be accepted. */
  genuine: boolean;
  /** Its part of the inputs of a whole run; those that check signatures are slow. */
  share: number;
  seeds(): Promise<Seed[]>;
}

/** For invariants of parsers. */
export function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(`does not hold: ${what}`);
}
