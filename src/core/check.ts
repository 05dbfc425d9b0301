/** One thing that was checked, in words that a person can act on. Shape of `verify --json`. */
export interface Check {
  /** Stable, dotted: "eif.crc", "seal.owner-signature", "evidence.chain". */
  id: string;
  status: 'pass' | 'fail' | 'skipped';
  expected?: string;
  actual?: string;
  detail?: string;
}

export const pass = (id: string, detail?: string): Check => ({ id, status: 'pass', ...(detail ? { detail } : {}) });
export const skipped = (id: string, detail: string): Check => ({ id, status: 'skipped', detail });
export const fail = (id: string, facts: Omit<Check, 'id' | 'status'>): Check => ({ id, status: 'fail', ...facts });

/** Passes when both are equal; a failed comparison says both. Not for secrets. */
export const compare = (id: string, expected: string, actual: string, detail?: string): Check => ({
  id,
  status: expected === actual ? 'pass' : 'fail',
  expected,
  actual,
  ...(detail ? { detail } : {}),
});

export const allPass = (checks: Check[]): boolean => checks.every((c) => c.status !== 'fail');
