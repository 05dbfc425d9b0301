import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Post, requestRelease } from '../broker/client.ts';
import { knownHex } from '../core/bytes.ts';
import { AtomaError, negativeError } from '../core/errors.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';
import { findOnnx } from '../model/onnx.ts';
import { verifyHeaderSignature } from '../seal/header.ts';
import { type ExtractSink, extract, openIndex, readHeader } from '../seal/open.ts';
import type { EnclaveAttester } from './attester.ts';
import type { Channel } from './channel.ts';
import { loadOnnxModel, type OnnxModel } from './onnx-model.ts';

/**
 * From a sealed model on an untrusted host to a loaded one: checks that the measured owner signed it, gets the content
 * key from a broker, opens it into `directory` (in memory), checks that it is the measured model, loads it, removes the
 * files. `lap` hears of each step's end.
 *
 * Throws `ERR_SEAL_*`, `ERR_RELEASE_*` (exit 4 where a broker refused), `ERR_ENCLAVE_MODEL_DIGEST` (exit 3),
 * `ERR_MODEL_NOT_ONNX`, `ERR_ENCLAVE_MODEL` (exit 2).
 */
export async function unlockModel(
  { channel, attester, config }: { channel: Channel; attester: EnclaveAttester; config: MeasuredConfig },
  directory: string,
  lap: (step: string) => void,
): Promise<OnnxModel> {
  const source = await channel.model();
  const parsed = await readHeader(source);
  const measured = {
    owner: knownHex(config.model.owner),
    project: config.project,
    model: config.model.digest,
  };
  verifyHeaderSignature(parsed, measured.owner);
  const key = await askBrokers(channel, (post) =>
    requestRelease({ post, attester, tee: attester.tee, header: parsed, measured }),
  );
  lap('attestation and release');
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const index = await openIndex(source, parsed, key);
    const { digest } = await extract(source, parsed, index, key, directorySink(directory));
    // No broker releases the key to this launch again: from here on other people's bytes are parsed.
    key.fill(0);
    await attester.lock();
    if (digest !== config.model.digest) {
      throw negativeError(
        'ERR_ENCLAVE_MODEL_DIGEST',
        `expected the model that this image measured, ${config.model.digest}, found ${digest}`,
        { hint: 'seal the model that the image was built for, or build the image for this one' },
      );
    }
    lap('model open');
    const model = await loadOnnxModel(join(directory, findOnnx(index.files)));
    lap('session');
    return model;
  } finally {
    rmSync(directory, { recursive: true, force: true });
    await source.close();
  }
}

/** The first broker that releases will do; where none does, what the last one to say no said. */
async function askBrokers(channel: Channel, ask: (post: Post) => Promise<Buffer>): Promise<Buffer> {
  const count = await channel.brokers();
  let refusal: unknown;
  for (let index = 0; index < count; index++) {
    try {
      return await ask((path, body) => channel.broker(index, path, body));
    } catch (error) {
      if (!(error instanceof AtomaError)) throw error;
      // That another broker is not a recipient says less than why one that is said no.
      if (refusal === undefined || error.code !== 'ERR_RELEASE_RECIPIENT') refusal = error;
    }
  }
  throw refusal;
}

/** Into memory: synchronous writes cost less than a thread pool's round trips. Paths were judged with the index. */
function directorySink(directory: string): ExtractSink {
  return {
    async open({ path }) {
      const target = join(directory, path);
      mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
      const fd = openSync(target, 'wx', 0o600);
      return {
        async write(chunk) {
          for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done);
        },
        async close() {
          closeSync(fd);
        },
      };
    },
  };
}
