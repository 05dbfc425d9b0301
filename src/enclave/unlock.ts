import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Post, requestRelease } from '../broker/client.ts';
import { knownHex } from '../core/bytes.ts';
import { AtomaError, negativeError } from '../core/errors.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';
import { verifyHeaderSignature } from '../seal/header.ts';
import { type ExtractSink, extract, type IndexFile, openIndex, readHeader } from '../seal/open.ts';
import type { EnclaveAttester } from './attester.ts';
import type { Channel } from './channel.ts';
import { memoryError, requireMemory } from './memory.ts';

/**
 * From a sealed model on an untrusted host to files in `directory` (in memory): checks that the measured owner signed it,
 * gets the content key from a broker, opens it, checks that it is the measured model. From then on no broker releases the
 * key to this launch again. `lap` hears of each step's end. The caller removes the directory, whatever happens.
 *
 * Throws `ERR_SEAL_*`, `ERR_RELEASE_*` (exit 4 where a broker refused), `ERR_ENCLAVE_MODEL_DIGEST` (exit 3),
 * `ERR_ENCLAVE_MEMORY` (exit 2).
 */
export async function unlockModel(
  { channel, attester, config }: { channel: Channel; attester: EnclaveAttester; config: MeasuredConfig },
  { root, directory }: { root: string; directory: string },
  lap: (step: string) => void,
): Promise<IndexFile[]> {
  const source = await channel.model();
  requireMemory(source.size, config.runtime.kind, root);
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
    // Another program reads the model as another user; nobody else is in here.
    const forOthers = config.runtime.kind === 'command';
    const index = await openIndex(source, parsed, key);
    const { digest } = await extract(source, parsed, index, key, directorySink(directory, forOthers)).catch((error) => {
      throw error?.code === 'ENOSPC' ? memoryError('the model does not fit into memory', error) : error;
    });
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
    return index.files;
  } finally {
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
function directorySink(directory: string, forOthers: boolean): ExtractSink {
  const [mode, fileMode] = forOthers ? [0o755, 0o444] : [0o700, 0o400];
  mkdirSync(directory, { recursive: true, mode });
  return {
    async open({ path }) {
      const target = join(directory, path);
      mkdirSync(dirname(target), { recursive: true, mode });
      const fd = openSync(target, 'wx', fileMode);
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
