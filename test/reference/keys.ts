import { hmac } from '@noble/hashes/hmac.js';
import { sha256, sha512 } from '@noble/hashes/sha2.js';
import { concat, encode, utf8 } from './cbor.ts';
import type { Header } from './header.ts';

// docs/sealed-model-format.md, "Keys": what derives from the content key, and what binds ciphertexts to their place.

export const keyId = (publicRaw: Uint8Array): Uint8Array => sha256(publicRaw).slice(0, 16);
/** X(label) of the page. */
export const derive = (ck: Uint8Array, label: string, sealId: Uint8Array): Uint8Array =>
  hmac(sha512, ck, concat(utf8(`atoma-tee/seal/v1/${label}`), new Uint8Array([0]), sealId, new Uint8Array([1]))).slice(
    0,
    32,
  );
export const indexAad = (sealId: Uint8Array) => encode(['atseal/1 index', sealId]);
export const partAad = (id: Uint8Array, length: number) => encode(['atseal/1 part', id, length]);

export type Context = Pick<Header, 'sealId' | 'epoch' | 'policy' | 'owner' | 't' | 'n'>;
export const shareInfo = (h: Context, share: number) =>
  encode(['atseal/1 share', 1, h.sealId, h.epoch, sha256(h.policy), h.owner, h.t, h.n, share]);
export const shareCommitment = (h: Context, share: number, plaintext: Uint8Array) =>
  sha256(encode(['atseal/1 commit', h.sealId, h.epoch, share, plaintext]));
