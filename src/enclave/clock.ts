import { statSync } from 'node:fs';
import { join } from 'node:path';
import { MEASURED_CONFIG_PATH } from '../core/layout.ts';
import { say } from './log.ts';
import { libc, SyscallError } from './native/libc.ts';

/** Certificates and receipts live in minutes; a clock may be wrong by this much. */
const TOLERATED_MS = 5_000;

/** Sets this machine's clock where it is far from what the security module says (milliseconds since 1970). */
export function trustClock(timestamp: number): void {
  const off = timestamp - Date.now();
  if (Math.abs(off) <= TOLERATED_MS) return;
  const result = libc().setClock(timestamp);
  const done =
    result < 0 ? `could not be set: ${new SyscallError('clock_settime', result).message}` : 'set from the NSM';
  say(`the clock was ${Math.round(Math.abs(off) / 1000)} s ${off > 0 ? 'slow' : 'fast'} and ${done}`);
}

/** Without a module there is only this: an image cannot run before it was made. */
export function doubtClock(root: string): void {
  const built = statSync(join(root, MEASURED_CONFIG_PATH)).mtimeMs;
  if (Date.now() < built) {
    say(`the clock says ${new Date().toISOString()}, before the image was built: what we sign will look too old`);
  }
}
