import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';

/** This checkout. */
export const root = resolve(import.meta.dirname, '..');
export const isRoot = process.getuid?.() === 0;

const UID = 12345;
/** Where the ordinary user sees the checkout: it may lie in a directory of root's alone. */
const SEEN = '/tmp/atoma-tee-checkout';
const BIND = `mkdir -p ${SEEN} && mount --bind '${root}' ${SEEN} && cd / && exec setpriv --reuid=${UID} --regid=${UID} --clear-groups -- "$@"`;

/**
 * The command that runs `command` as somebody who is not root and can read this checkout, whose paths in it are put
 * right. Where the tests are not run by root it is `command` itself.
 */
export function asOrdinaryUser(command: string[]): string[] {
  if (!isRoot) return command;
  const seen = command.map((word) => (word.startsWith(`${root}/`) ? SEEN + word.slice(root.length) : word));
  return ['unshare', '--mount', 'sh', '-c', BIND, 'sh', ...seen];
}

/** Hands a directory and everything in it to that user. */
export function giveAway(path: string): void {
  if (isRoot) spawnSync('chown', ['-R', `${UID}:${UID}`, path]);
}
