import type { Statement } from '../manifest/statement.ts';
import type { GramineSide } from './gramine-side.ts';
import type { LockOwner } from './lock-owners.ts';
import type { NitroSide } from './nitro-side.ts';
import type { SideFacts } from './types.ts';

/** Registers by name, lower-case hex (decimal for the product's numbers); null: not known. */
export type Registers = Record<string, string | null>;

/** One of the two things that are compared, opened. */
export interface Side {
  facts: SideFacts;
  nitro?: NitroSide;
  gramine?: GramineSide;
  statement?: Statement;
  lock?: LockOwner;
  notes: string[];
}

/** All-zero registers: what the hypervisor reports of a debug enclave. */
export const isDebug = (registers: Registers): boolean => {
  const known = ['pcr0', 'pcr1', 'pcr2'].flatMap((name) => registers[name] ?? []);
  return known.length > 0 && known.every((value) => /^0+$/.test(value));
};
