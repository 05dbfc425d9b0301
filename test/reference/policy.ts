import { decode, type Item } from './cbor.ts';
import { Refused } from './refused.ts';

// docs/sealed-model-format.md, "Release policy": only its form. What it means is a broker's business.

type Rule = (value: Item) => boolean;

const bytes =
  (min: number, max = min): Rule =>
  (v) =>
    v instanceof Uint8Array && v.length >= min && v.length <= max;
const register =
  (length: number): Rule =>
  (v) =>
    bytes(length)(v) && (v as Uint8Array).some((byte) => byte !== 0);
const uint =
  (max = Number.MAX_SAFE_INTEGER): Rule =>
  (v) =>
    typeof v === 'number' && v >= 0 && v <= max;
const text: Rule = (v) => typeof v === 'string' && v.length >= 1 && v.length <= 256;
const list =
  (rule: Rule, min: number, max: number): Rule =>
  (v) =>
    Array.isArray(v) && v.length >= min && v.length <= max && v.every(rule);
const is =
  (word: string): Rule =>
  (v) =>
    v === word;
/** Keys that end in "?" may be absent. */
const map =
  (rules: Record<string, Rule>): Rule =>
  (v) => {
    if (!(v instanceof Map)) return false;
    const known = new Map(
      Object.entries(rules).map(([name, rule]) => [name.replace('?', ''), { rule, optional: name.endsWith('?') }]),
    );
    for (const key of v.keys()) if (typeof key !== 'string' || !known.has(key)) return false;
    for (const [name, { rule, optional }] of known) {
      const value = v.get(name);
      if (value === undefined ? !optional : !rule(value)) return false;
    }
    return true;
  };

const nitroForm = map({
  tee: is('nitro'),
  ...Object.fromEntries(['pcr0?', 'pcr1?', 'pcr2?', 'pcr3?', 'pcr4?', 'pcr8?'].map((name) => [name, register(48)])),
});
const nitro: Rule = (v) =>
  nitroForm(v) &&
  ((v as Map<string, Item>).has('pcr8') ||
    ['pcr0', 'pcr1', 'pcr2'].every((name) => (v as Map<string, Item>).has(name)));
const sgx = map({
  tee: is('sgx'),
  'mrenclave?': register(32),
  mrsigner: register(32),
  isvprodid: uint(0xffff),
  min_isvsvn: uint(0xffff),
});
const real: Rule = (v) => nitro(v) || sgx(v);
const simulated = map({ tee: is('simulated'), root: bytes(32), of: real });

const policy = map({
  any: list((v) => real(v) || simulated(v), 1, 256),
  'accept_tcb?': list(text, 1, 32),
  'min_tcb_evaluation?': uint(),
  'accept_advisories?': list(text, 0, 1024),
  'platforms?': list(bytes(1, 64), 1, 1024),
  'not_after?': uint(),
  project: (v) => typeof v === 'string' && /^[a-z0-9][a-z0-9-]*$/.test(v) && v.length <= 128,
  model: bytes(32),
});

/** Throws Refused: ERR_CBOR_MALFORMED, ERR_POLICY_INVALID, ERR_POLICY_MIXED. */
export function checkPolicy(encoded: Uint8Array): void {
  let value: Item;
  try {
    if (encoded.length > 65_536) throw new Error('too long');
    value = decode(encoded);
  } catch (error) {
    throw new Refused('ERR_CBOR_MALFORMED', `policy: ${(error as Error).message}`);
  }
  if (!policy(value)) throw new Refused('ERR_POLICY_INVALID', 'not of the form');
  const alternatives = (value as Map<string, Item>).get('any') as Item[];
  if (new Set(alternatives.map(simulated)).size > 1) throw new Refused('ERR_POLICY_MIXED', 'real and simulated');
}
