import { usageError } from '../../core/errors.ts';
import { readSmallFile } from '../../core/files.ts';
import { type Context, hexFlag, need } from './context.ts';
import type { VerifyOptions } from './options.ts';
import { verifyReceiptByKey, verifyReceiptFile } from './receipt.ts';
import type { Findings } from './report.ts';

const MAX_MESSAGE = 256 << 20;

/** The flags, and who is given the bytes that are judged. */
export type Attaching = VerifyOptions & { attach: (name: string, bytes: Uint8Array) => void };

/** A receipt with the files that belong to it. Throws `ERR_NO_EVIDENCE`, `ERR_USAGE` and what reading throws. */
export async function verifyOneReceipt(file: string, options: Attaching, context: Context, findings: Findings) {
  const receipt = await readSmallFile(file, 'receipt');
  options.attach('receipt.cbor', receipt);
  const { maxAge } = options;
  if (options.publicKey !== undefined) {
    const key = hexFlag('--public-key', options.publicKey, 32);
    const { nonce, at, now } = context.trust;
    verifyReceiptByKey(receipt, key, { maxAge, nonce, now: at ?? now, ...(await readMessages(options)) }, findings);
    return;
  }
  if (options.evidence === undefined) {
    throw usageError('ERR_NO_EVIDENCE', 'expected the evidence that the receipt refers to, found none', {
      hint: 'give --evidence FILE, or --public-key HEX to check signature and claims only',
    });
  }
  const inputs = {
    evidence: await readSmallFile(options.evidence, 'evidence', 8 << 20),
    ...(await readMessages(options)),
    modelDigest: context.manifest?.modelDigest,
    maxAge,
  };
  options.attach(evidenceName(inputs.evidence), inputs.evidence);
  await verifyReceiptFile(receipt, inputs, need(context.expected, 'a receipt'), context.trust, findings);
}

/** Our own file is JSON; what vendors make is not. */
export const evidenceName = (bytes: Uint8Array): string => (bytes[0] === 0x7b ? 'evidence.json' : 'evidence.bin');

async function readMessages({ request, response }: VerifyOptions) {
  const read = async (path: string | undefined, what: string) =>
    path === undefined ? undefined : await readSmallFile(path, what, MAX_MESSAGE);
  return { request: await read(request, 'request'), response: await read(response, 'response') };
}
