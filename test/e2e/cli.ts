import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { asOrdinaryUser, root } from '../ordinary-user.ts';

export { giveAway, isRoot, root } from '../ordinary-user.ts';

export const digits = join(root, 'examples/digits');

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  /** The one JSON document on stdout. */
  json: any;
}

/** CI=true turns colours on without a terminal, and tests read text. */
const plain = (env: Record<string, string> = {}): Record<string, string> =>
  'FORCE_COLOR' in env ? {} : { NO_COLOR: '1' };

/** Runs the command line as a user would: the launcher, the built package, no terminal. */
export function atomaTee(
  args: string[],
  options: { cwd?: string; env?: Record<string, string>; input?: string; via?: string[]; ordinaryUser?: boolean } = {},
): Outcome {
  const line = [...(options.via ?? []), join(root, 'bin/atoma-tee'), ...args];
  const [command, ...rest] = (options.ordinaryUser ? asOrdinaryUser(line) : line) as [string, ...string[]];
  const child = spawnSync(command, rest, {
    cwd: options.cwd ?? root,
    encoding: 'utf8',
    env: { ...process.env, ...plain(options.env), ...options.env },
    input: options.input ?? '',
    maxBuffer: 1 << 28,
  });
  const outcome = { code: child.status, signal: child.signal, stdout: child.stdout ?? '', stderr: child.stderr ?? '' };
  return {
    ...outcome,
    get json() {
      return JSON.parse(outcome.stdout);
    },
  };
}

/** `seal` for the simulated TEE; every argument is a path. */
export const sealCommand = (of: {
  model: string;
  manifest: string;
  owner: string;
  broker: string;
  recovery?: string;
  out: string;
}) => [
  ...['seal', of.model, '--manifest', of.manifest, '--sign', of.owner, '--to', of.broker],
  ...(of.recovery === undefined ? [] : ['--recovery', of.recovery]),
  ...['--allow-simulated', 'local', '--out', of.out],
];

/** Fails with what the command printed, so that a broken step explains itself. */
export function ok(outcome: Outcome): Outcome {
  if (outcome.code !== 0)
    throw new Error(`exit ${outcome.code ?? outcome.signal}\n${outcome.stdout}\n${outcome.stderr}`);
  return outcome;
}

/** A directory that is gone afterwards. */
export function scratch(): { dir: string; remove: () => void } {
  const dir = mkdtempSync(join(tmpdir(), 'atoma-e2e-'));
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}
