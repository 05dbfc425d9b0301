import { Flags } from '@oclif/core';
import { usageError } from '../core/errors.ts';

/** Flags that several commands share, so that they mean and say the same everywhere. */
export const allowSimulated = Flags.string({
  multiple: true,
  helpValue: 'local|sha256:HEX',
  description: "accept the simulated TEE whose root this names: this machine's (local), or by fingerprint",
});

export const at = Flags.string({
  helpValue: 'TIME',
  description: 'judge validity at this time (ISO 8601) instead of now',
});

export const endorsements = Flags.string({
  helpValue: 'PATH',
  description:
    "what vendors say of machines: certificates, revocation lists, Intel's collateral; a directory or a file",
});

/** Parses `--at`. */
export function parseTime(text: string | undefined): Date {
  if (text === undefined) return new Date();
  const time = /^\d{4}-\d{2}-\d{2}(T[\d:.]+(Z|[+-]\d{2}:\d{2}))?$/.test(text) ? new Date(text) : new Date(Number.NaN);
  if (Number.isNaN(time.getTime())) {
    throw usageError('ERR_USAGE', `expected a time such as 2026-11-22T10:00:00Z, found "${text}"`);
  }
  return time;
}
