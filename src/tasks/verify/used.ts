import type { Tee } from '../../attest/index.ts';
import { usageError } from '../../core/errors.ts';
import type { VerifyOptions } from './options.ts';
import { KINDS, type Kind, type Policy } from './report.ts';

/** `--kind` names a kind of file, or of evidence the TEE. */
export const isTee = (kind: Kind | Tee): kind is Tee => !(KINDS as readonly string[]).includes(kind);

/** Flags that ask for something to hold. */
const FLAGS = {
  manifest: '--manifest',
  expect: '--expect',
  owner: '--owner',
  key: '--key',
  evidence: '--evidence',
  publicKey: '--public-key',
  request: '--request',
  response: '--response',
  nonce: '--nonce',
  maxAge: '--max-age',
  endorsements: '--endorsements',
  root: '--root',
  acceptTcb: '--accept-tcb',
  acceptProduct: '--accept-product',
  acceptVmpl: '--accept-vmpl',
  policy: '--policy',
  libpal: '--libpal',
  acceptDebug: '--accept-debug',
  rebuild: '--rebuild',
  project: '--project',
  inputs: '--inputs',
} as const;
type Demand = keyof typeof FLAGS;
const OF_EVIDENCE: Demand[] = [
  'manifest',
  'expect',
  'endorsements',
  'root',
  'acceptTcb',
  'acceptProduct',
  'acceptVmpl',
];
const OF_ENCLAVES: Demand[] = ['manifest', 'expect', 'libpal', 'acceptDebug'];
const OF_RECEIPTS: Demand[] = ['request', 'response', 'nonce', 'maxAge'];
const OF_MANIFESTS: Demand[] = ['key', 'rebuild', 'project', 'inputs'];
/** What is looked at for each kind of file. */
export const READS: Record<Kind | 'receipt by key', Demand[]> = {
  'build-manifest': OF_MANIFESTS,
  'manifest-signature': OF_MANIFESTS,
  'model-signature': ['key'],
  eif: ['manifest', 'expect'],
  'gramine-manifest': OF_ENCLAVES,
  sigstruct: OF_ENCLAVES,
  'sealed-model': ['manifest', 'owner', 'key'],
  evidence: [...OF_EVIDENCE, 'nonce', 'policy'],
  receipt: [...OF_EVIDENCE, 'evidence', ...OF_RECEIPTS],
  'receipt by key': ['publicKey', ...OF_RECEIPTS],
};

/** What was asked, for the verdict: in the words of the command line. */
export function askedFor(options: VerifyOptions): Policy {
  const { kind, at, allowSimulated } = options;
  const given = Object.entries(FLAGS).map(([name, flag]) => [flag, options[name as Demand]] as const);
  const all = [['--kind', kind] as const, ...given, ['--allow-simulated', allowSimulated] as const];
  const flags = all.map(([flag, value]) => [flag, value === undefined ? [] : [value].flat().map(String)] as const);
  return {
    now: new Date().toISOString(),
    ...(at === undefined ? {} : { at: at.toISOString() }),
    flags: Object.fromEntries(flags.filter(([, values]) => values.length > 0)),
  };
}

/** What is asked for and looked at by nobody must not end in a pass. Throws `ERR_USAGE`. */
export function requireUsed(options: VerifyOptions, kinds: Kind[]): void {
  const byKey = options.publicKey !== undefined;
  const read = new Set(kinds.flatMap((kind) => READS[kind === 'receipt' && byKey ? 'receipt by key' : kind]));
  for (const name of Object.keys(FLAGS) as Demand[]) {
    const value = options[name];
    const given = Array.isArray(value) ? value.length > 0 : value !== undefined;
    if (given && !read.has(name)) {
      const what = kinds.map((kind) => (kind === 'receipt' && byKey ? 'a receipt with --public-key' : kind)).join(', ');
      throw usageError('ERR_USAGE', `${FLAGS[name]}: expected a file that it is compared with, found ${what}`, {
        hint: 'leave it out, or name the file that it is about too',
      });
    }
  }
}
