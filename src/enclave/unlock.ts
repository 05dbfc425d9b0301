import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Post } from '../broker/client.ts';
import { brokerName, requestRelease } from '../broker/release.ts';
import { knownHex } from '../core/bytes.ts';
import { negativeError } from '../core/errors.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';
import { verifyHeaderSignature } from '../seal/header.ts';
import { type ExtractSink, extract, type IndexFile, openIndex, readHeader } from '../seal/open.ts';
import type { EnclaveAttester } from './attester.ts';
import type { Channel } from './channel.ts';
import { say } from './log.ts';
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
  const key = await requestRelease({
    brokers: ways(channel, await channel.brokers()),
    attester,
    tee: attester.tee,
    header: parsed,
    measured,
    onFailure: (failure) => say(`${brokerName(failure)} did not release: ${failure.error.message}`),
  });
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

/** One way to each broker that the host forwards to. */
const ways = (channel: Channel, count: number): Post[] =>
  Array.from({ length: count }, (_, index) => (path: string, body: Uint8Array) => channel.broker(index, path, body));

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
