import type { Change, DiffReport, PartDiff, RegisterDiff } from '../diff/index.ts';

/** What the terminal and the page say in the same words. */

export const VERDICT: Record<DiffReport['verdict'], { word: string; says: string }> = {
  equal: { word: 'EQUAL', says: 'nothing that was compared differs' },
  'same-measurement': { word: 'SAME MEASUREMENT', says: 'what differs is covered by no register' },
  different: { word: 'DIFFERENT', says: 'the measurements are not the same' },
  debug: { word: 'DEBUG', says: 'a debug enclave has no measurement: its registers are zero' },
};

export const KIND: Record<DiffReport['a']['kind'], string> = {
  eif: 'Nitro image',
  'gramine-manifest': 'Gramine manifest',
  build: 'build',
  measurements: 'list of measurements',
  measurement: 'measurement alone',
};

export const sideWords = ({ kind, project, toolkit }: DiffReport['a']): string =>
  [KIND[kind], project && `of ${project}`, toolkit && `by toolkit ${toolkit}`].filter(Boolean).join(' ');

export function registerWords({ status, because }: RegisterDiff): string {
  if (status === 'debug') return 'debug: zero in a debug enclave, nothing to compare';
  if (status === 'unknown') return 'unknown: one side does not say';
  return because.length > 0 ? `different, because of ${because.join(', ')}` : status;
}

const CHANGE: Record<Change['what'], string> = {
  added: 'only in B',
  removed: 'only in A',
  renamed: 'renamed',
  content: 'content',
  type: 'type',
  mode: 'mode',
  owner: 'owner',
  time: 'time',
  target: 'link target',
  device: 'device',
  value: 'value',
  order: 'order of entries',
  numbering: 'inode numbers',
  compression: 'compression',
  layout: 'place in the enclave',
  framing: 'how it is written',
};
export const changeWords = ({ what }: Change): string => CHANGE[what];

/** "0644 -> 0600". Digests are cut: whoever wants them whole reads --json. */
export function changeValues({ a, b }: Change): string {
  if (a === null && b === null) return '';
  const text = a === null ? `${b}` : b === null ? `${a}` : a === b ? a : `${a} -> ${b}`;
  return text.replace(/sha256 ([0-9a-f]{16})[0-9a-f]{48}/g, 'sha256 $1…');
}

export const partTitle = ({ name, registers }: PartDiff): string =>
  `${name} (${registers.length === 0 ? 'not measured' : registers.map((register) => register.toUpperCase()).join(', ')})`;

export function partSizes({ a, b }: PartDiff): string {
  const one = (facts: PartDiff['a']) =>
    facts === null
      ? 'not there'
      : `${facts.size} bytes${facts.entries === undefined ? '' : `, ${facts.entries} entries`}`;
  return one(a) === one(b) ? one(a) : `${one(a)} -> ${one(b)}`;
}

export const bytesWords = (differing: number | null, sizeA: number, sizeB: number): string =>
  differing === null ? `${sizeA} and ${sizeB} bytes` : `${differing} of ${sizeA} bytes differ`;
