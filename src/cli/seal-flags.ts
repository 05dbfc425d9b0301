import { Flags } from '@oclif/core';
import { allowSimulated, parseTime } from './flags.ts';

/** Flags of `seal` and `rebind`: to whom, and under which release policy. */
export const recipientFlags = {
  to: Flags.string({
    required: true,
    multiple: true,
    helpValue: 'BROKER.pub',
    description: 'broker that may release the key, or a share of it',
  }),
  threshold: Flags.integer({
    default: 1,
    min: 1,
    max: 255,
    helpValue: 'T',
    description: 'how many of the brokers it takes; fewer learn nothing',
  }),
};

const POLICY = 'RELEASE POLICY';

export const policyFlags = {
  policy: Flags.string({
    helpValue: 'FILE',
    exclusive: ['bind', 'min-isvsvn', 'accept-tcb', 'platform', 'not-after', 'allow-simulated'],
    description: 'release policy as JSON, instead of the flags below',
    helpGroup: POLICY,
  }),
  bind: Flags.option({
    options: ['image', 'signer'] as const,
    description:
      'open in this image only (the default), or in whatever its signer signs: a rebuild needs no new header',
    helpGroup: POLICY,
  })(),
  'min-isvsvn': Flags.integer({
    min: 0,
    max: 0xffff,
    helpValue: 'N',
    description: "SGX: lowest version (ISVSVN) that may open it [default: the image's]",
    helpGroup: POLICY,
  }),
  'accept-tcb': Flags.string({
    multiple: true,
    helpValue: 'STATUS',
    description: 'TCB status besides UpToDate',
    helpGroup: POLICY,
  }),
  platform: Flags.string({
    multiple: true,
    helpValue: 'ID',
    description: 'allow-listed platform id',
    helpGroup: POLICY,
  }),
  'not-after': Flags.string({
    helpValue: 'TIME',
    description: "no release after this, by the broker's clock",
    helpGroup: POLICY,
  }),
  'allow-simulated': allowSimulated,
};

interface Parsed {
  policy?: string | undefined;
  bind?: 'image' | 'signer' | undefined;
  'min-isvsvn'?: number | undefined;
  'accept-tcb'?: string[] | undefined;
  platform?: string[] | undefined;
  'not-after'?: string | undefined;
  'allow-simulated'?: string[] | undefined;
}

/** What the tasks call them. Throws `ERR_USAGE` (exit 2). */
export const policyWishes = (flags: Parsed) => ({
  policyFile: flags.policy,
  bind: flags.bind,
  minIsvsvn: flags['min-isvsvn'],
  acceptTcb: flags['accept-tcb'],
  platforms: flags.platform,
  notAfter: flags['not-after'] === undefined ? undefined : parseTime(flags['not-after']),
  allowSimulated: flags['allow-simulated'] ?? [],
});

interface Sealed {
  sealId: string;
  simulated: boolean;
  policy: { any: object[] };
  threshold: { t: number; n: number };
  brokers: string[];
  recovery: string | null;
}

/** Rows of a table that say who can open what was sealed. */
export const whoCanOpen = ({
  simulated,
  threshold: { t, n },
  brokers,
  recovery,
  policy,
}: Sealed): [string, string][] => [
  ['opens in', simulated ? 'the SIMULATED TEE only' : opensIn(policy.any)],
  ['released by', n === 1 ? 'the broker' : t === 1 ? `any of ${n} brokers` : `${t} of ${n} brokers together`],
  ...brokers.map((id, i): [string, string] => [n === 1 ? 'broker' : `broker ${i + 1}`, id]),
  ['recovery', recovery ?? 'none: if too many broker keys are lost, this file is lost'],
];

const opensIn = (any: object[]): string => {
  const tees = any.map((one) => ('tee' in one ? String(one.tee) : ''));
  return `enclaves that the policy names (${[...new Set(tees)].join(', ')})`;
};
