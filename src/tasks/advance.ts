import { decodeEpochs } from '../broker/index.ts';
import { decodeRefusal } from '../broker/refusal.ts';
import { hex } from '../core/bytes.ts';
import { AtomaError, refusedError } from '../core/errors.ts';
import { verifyHeaderSignature } from '../seal/header.ts';
import { readHeader } from '../seal/open.ts';
import { fileSource } from '../seal/source.ts';
import { exitName, remoteBroker, withoutSecrets } from './brokers.ts';

/** What a broker answered: the epochs in force before and after, or why not. */
export type Advanced = { url: string; previous: number; epoch: number } | { url: string; error: AtomaError };

/**
 * `atoma-tee broker advance`: puts the header of a sealed model in force at brokers, so that they refuse older ones. Every broker is asked,
 * whatever the others say. Throws as readHeader, `ERR_SEAL_SIGNATURE` (exit 3), `ERR_USAGE` (exit 2) for a bad URL.
 */
export async function advance({ sealed, brokers }: { sealed: string; brokers: string[] }) {
  const source = await fileSource(sealed);
  const parsed = await readHeader(source).finally(() => source.close());
  verifyHeaderSignature(parsed);
  const { epoch, sealId } = parsed.header;
  const ways = brokers.map((url) => ({ url: withoutSecrets(url), put: remoteBroker(url) }));
  const answers = await Promise.all(
    ways.map(async ({ url, put }): Promise<Advanced> => {
      try {
        return { url, ...(await askOne(put, parsed.bytes, epoch)) };
      } catch (error) {
        return { url, error: asAtomaError(error) };
      }
    }),
  );
  return { epoch, sealId: hex(sealId), brokers: answers };
}

/** One error for the brokers that were not advanced, which lists them all; undefined where there are none. */
export function advanceError({ brokers }: { brokers: Advanced[] }): AtomaError | undefined {
  const failed = brokers.flatMap((one) => ('error' in one ? [one] : []));
  const first = failed[0]?.error;
  if (first === undefined) return undefined;
  const message =
    brokers.length === 1
      ? first.message
      : `${failed.length} of ${brokers.length} brokers were not advanced: ${failed.map(({ url, error }) => `${url}: ${error.message}`).join('; ')}`;
  const details = {
    brokers: brokers.map((one) =>
      'error' in one ? { url: one.url, code: one.error.code, message: one.error.message } : one,
    ),
  };
  return new AtomaError(exitName(first), first.code, message, { details, ...(first.hint ? { hint: first.hint } : {}) });
}

async function askOne(put: ReturnType<typeof remoteBroker>, header: Uint8Array, epoch: number) {
  const { status, body } = await put('/v1/epochs', header, 'PUT');
  if (status !== 200) throw decodeRefusal(status, body);
  const answer = decodeEpochs(body);
  if (answer.epoch === epoch) return answer;
  throw refusedError(
    'ERR_RELEASE_EPOCH',
    `the broker has a newer header in force: expected epoch ${epoch}, found ${answer.epoch}`,
    { hint: 'advance with the newest header of this sealed model' },
  );
}

const asAtomaError = (error: unknown): AtomaError =>
  error instanceof AtomaError
    ? error
    : new AtomaError(
        'unexpected',
        'ERR_BROKER_UNREACHABLE',
        `expected an answer from the broker, found: ${error instanceof Error ? error.message : 'none'}`,
      );
