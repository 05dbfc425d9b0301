/**
 * The worked example of docs/sealed-model-format.md, by the second implementation. `bin/with-node test/reference/example.ts --write` renews the
 * page and test/vectors/sealed; without --write it prints the section.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ed25519 } from '@noble/curves/ed25519.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { shake256 } from '@noble/hashes/sha3.js';
import { decode, diagnose, encode, type Item, toHex, utf8 } from './cbor.ts';
import { xwingPublic } from './hpke.ts';
import { modelDigest } from './index-part.ts';
import { seal } from './sealed.ts';

const root = join(import.meta.dirname, '../..');
export const PATHS = {
  page: join(root, 'docs/sealed-model-format.md'),
  values: join(root, 'test/vectors/sealed/example.json'),
  sealed: join(root, 'test/vectors/sealed/example.sealed'),
};
const BEGIN = '<!-- made by test/reference/example.ts: do not edit -->\n';
const END = '<!-- end of what is made -->\n';

/** `from`: input, random (in this example: by a rule) or derived. */
export interface Entry {
  name: string;
  from: 'input' | 'random' | 'derived';
  bytes: Uint8Array;
}

/** What would be random: SHAKE256 of its name. */
const made = (name: string, length: number): Uint8Array => shake256(utf8(`atseal example: ${name}`), { dkLen: length });

const FILES = [
  { path: 'config.json', bytes: utf8('{"layers":1}\n'), mode: 0o644 },
  { path: 'empty', bytes: new Uint8Array(), mode: 0o600 },
  { path: 'weights/w.bin', bytes: Uint8Array.from({ length: 40 }, (_, i) => i), mode: 0o644 },
];

export function makeExample(): { entries: Entry[]; sealed: Uint8Array; seeds: Record<string, Uint8Array> } {
  const entries: Entry[] = [];
  const tell = (from: Entry['from']) => (name: string, bytes: Uint8Array) => {
    entries.push({ name, from, bytes });
    return bytes;
  };
  const random = (name: string, length: number) => tell('random')(name, made(name, length));
  for (const { path, bytes } of FILES) tell('input')(`model: ${path}`, bytes);
  const owner = random('owner: Ed25519 private key', 32);
  tell('derived')('owner: public key', ed25519.getPublicKey(owner));
  const seeds: Record<string, Uint8Array> = {};
  const keyOf = (who: string): Uint8Array => {
    const seed = random(`${who}: X-Wing seed`, 32);
    seeds[who] = seed;
    tell('derived')(`${who}: SHAKE256(seed, 96)`, shake256(seed, { dkLen: 96 }));
    return tell('derived')(`${who}: public key`, xwingPublic(seed));
  };
  const [broker1, broker2, recovery] = ['broker 1', 'broker 2', 'recovery'].map(keyOf) as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  const digest = modelDigest(FILES.map(({ path, bytes }) => ({ path, sha256: sha256(bytes) })));
  const model = tell('derived')('model: model digest', Uint8Array.from(Buffer.from(digest, 'hex')));
  const measurement = new Map<string, Item>([['tee', 'nitro']]);
  for (const [i, name] of ['pcr0', 'pcr1', 'pcr2'].entries())
    measurement.set(name, new Uint8Array(48).fill(0x11 * (i + 1)));
  const policy = encode(
    new Map<string, Item>([
      ['any', [measurement]],
      ['project', 'example'],
      ['model', model],
    ]),
  );
  tell('input')('policy: dCBOR', policy);
  tell('derived')('policy: SHA-256', sha256(policy));
  const sealed = seal(
    {
      files: FILES,
      partSize: 32,
      owner,
      brokers: [broker1, broker2],
      threshold: 2,
      recovery,
      policy,
      created: 1_800_000_000,
    },
    random,
    tell('derived'),
  );
  tell('derived')('file: SHA-256', sha256(sealed));
  return { entries, sealed, seeds };
}

/** Shown in diagnostic notation too. */
const CBOR = /^(policy: dCBOR|index: plaintext|header: payload|.*(HPKE info|FLOE AAD))$/;

export function renderPage(entries: Entry[], size: number): string {
  const lines: string[] = [];
  let section = '';
  for (const { name, from, bytes } of entries) {
    const before = name.includes(': ') ? name.slice(0, name.indexOf(': ')) : '';
    if (before !== section && lines.length > 0) lines.push('');
    section = before;
    lines.push(`${name}${from === 'derived' ? '' : ` (${from})`}, ${bytes.length} bytes`);
    if (CBOR.test(name)) {
      // What is long stands elsewhere in full.
      const text = diagnose(decode(bytes)).replace(/h'([0-9a-f]{16})[0-9a-f]{100,}'/g, "h'$1...'");
      lines.push(...text.split('\n').map((line) => `    ${line}`));
    }
    for (let i = 0; i < bytes.length; i += 64) lines.push(`  ${toHex(bytes.subarray(i, i + 64))}`);
  }
  return `## Worked example

Three files, two brokers of which both are needed, a recovery key, parts of at most 32 bytes; the sealed file has ${size} bytes. What a real writer takes from its random generator is here
SHAKE256("atseal example: " || name), as many bytes as it takes, with the names below. The shares are at x = 7 and x = 14. "derived" is not said. Byte strings that are
shortened ("...") in diagnostic notation stand in full beside it. The same values are in \`test/vectors/sealed/example.json\`, the file itself is \`test/vectors/sealed/example.sealed\`.

\`\`\`
${lines.join('\n')}
\`\`\`
`;
}

/** The page with its example in place. */
export function withExample(page: string, section: string): string {
  const [before = ''] = page.split(BEGIN);
  const after = page.split(END)[1] ?? '';
  return `${before}${BEGIN}\n${section}\n${END}${after}`;
}

export const valuesJson = (entries: Entry[]): string =>
  `${JSON.stringify(
    entries.map(({ name, from, bytes }) => ({ name, from, hex: toHex(bytes) })),
    null,
    2,
  )}\n`;

if (import.meta.main) {
  const { entries, sealed } = makeExample();
  const section = renderPage(entries, sealed.length);
  if (process.argv.includes('--write')) {
    writeFileSync(PATHS.page, withExample(readFileSync(PATHS.page, 'utf8'), section));
    writeFileSync(PATHS.values, valuesJson(entries));
    writeFileSync(PATHS.sealed, sealed);
  } else console.log(section);
}
