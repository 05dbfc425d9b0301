/** Opens a sealed model with the second implementation: bin/with-node test/reference/open.ts SEALED KEY... OUT */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { concat, sameBytes, toHex } from './cbor.ts';
import { readHeader } from './header.ts';
import { xwingPublic } from './hpke.ts';
import { keyId } from './keys.ts';
import { open } from './sealed.ts';

/** The seed in a PKCS#8 file: docs/sealed-model-format.md, "Key files". */
export function readSeed(pem: string): Uint8Array {
  const base64 = /^\s*-----BEGIN PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END PRIVATE KEY-----\s*$/.exec(pem)?.[1];
  const der = concat(Buffer.from(base64 ?? '', 'base64'));
  const prefix = Buffer.from('3034020100300d060b2b0601040183e62d81c87a0420', 'hex');
  if (der.length !== 54 || !sameBytes(der.subarray(0, 22), prefix)) throw new Error('not an X-Wing private key');
  return der.slice(22);
}

if (import.meta.main) {
  const [sealed, ...rest] = process.argv.slice(2);
  const out = rest.pop();
  if (!sealed || !out || rest.length === 0) {
    console.error('usage: open.ts SEALED KEY... OUT    (KEY: the recovery key, or as many brokers as it takes)');
    process.exit(2);
  }
  const file = concat(readFileSync(sealed));
  const seeds = rest.map((path) => readSeed(readFileSync(path, 'utf8')));
  const [first] = seeds as [Uint8Array];
  const id = keyId(xwingPublic(first));
  const isRecovery = readHeader(file).recipients.some((r) => r.kind === 2 && sameBytes(r.keyId, id));
  const opened = open(file, isRecovery ? { recovery: first } : { brokers: seeds });
  mkdirSync(out);
  for (const [path, { bytes, mode }] of opened.files) {
    mkdirSync(dirname(join(out, path)), { recursive: true });
    writeFileSync(join(out, path), bytes, { mode, flag: 'wx' });
  }
  console.log(`opened ${opened.files.size} files into ${out}`);
  console.log(`model digest ${opened.modelDigest}`);
  console.log(`owner ${toHex(opened.header.owner)}`);
}
