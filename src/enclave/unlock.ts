import { chmodSync, closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import type { Post } from '../broker/client.ts';
import { brokerName, requestRelease } from '../broker/release.ts';
import { knownHex } from '../core/bytes.ts';
import { negativeError } from '../core/errors.ts';
import { MOST_THREADS } from '../core/layout.ts';
import type { MeasuredConfig } from '../core/measured-config.ts';
import { type ParsedHeader, verifyHeaderSignature } from '../seal/header.ts';
import {
  type ByteSource,
  type ExtractSink,
  extract,
  type IndexFile,
  openIndex,
  readHeader,
  type SealIndex,
} from '../seal/open.ts';
import { extractOnThreads } from '../seal/stream.ts';
import type { EnclaveAttester } from './attester.ts';
import type { Channel } from './channel.ts';
import { say } from './log.ts';
import { memoryError, requireMemory } from './memory.ts';

/**
 * From a sealed model on an untrusted host to files in `directory` (in memory): checks that the measured owner signed it,
 * gets the content key from a broker, opens it, checks that it is the measured model. From then on no broker releases the
 * key to this launch again. `lap` hears of each step's end; `worker` is what threads run (RunOptions.entry). The caller removes the
 * directory, whatever happens.
 *
 * Throws `ERR_SEAL_*`, `ERR_RELEASE_*` (exit 4 where a broker refused), `ERR_ENCLAVE_MODEL_DIGEST` (exit 3),
 * `ERR_ENCLAVE_MEMORY` (exit 2).
 */
export async function unlockModel(
  { channel, attester, config }: { channel: Channel; attester: EnclaveAttester; config: MeasuredConfig },
  { root, directory, worker }: { root: string; directory: string; worker?: URL | undefined },
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
    const opened = onThreads(source.size)
      ? openOnThreads({ source, parsed, index, key, directory, forOthers, worker })
      : extract(source, parsed, index, key, directorySink(directory, forOthers));
    const { digest } = await opened.catch((error) => {
      const full = error?.code === 'ENOSPC' || error?.code === 'ERR_DISK_FULL';
      throw full ? memoryError('the model does not fit into memory', error) : error;
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

/** From this size on, threads take less time than they take to start. */
const LARGE = 64 << 20;

/**
 * Not where threads are counted (Gramine): each of Node's reserves 600 MiB of addresses, which without EDMM are the enclave's memory.
 */
const onThreads = (size: number): boolean =>
  size >= LARGE && availableParallelism() > 1 && process.env[MOST_THREADS] === undefined;

interface Opening {
  source: ByteSource;
  parsed: ParsedHeader;
  index: SealIndex;
  key: Uint8Array;
  directory: string;
  forOthers: boolean;
  worker: URL | undefined;
}

async function openOnThreads({ source, parsed, index, key, directory, forOthers, worker }: Opening) {
  const { mode, fileMode } = modes(forOthers);
  for (const path of new Set(index.files.map((file) => dirname(join(directory, file.path)))))
    mkdirSync(path, { recursive: true, mode });
  const run = { phase: 'opening', doing: 'cannot open the model', entry: worker };
  const opened = await extractOnThreads(source, parsed, index, key, directory, run);
  for (const { path, size } of index.files) {
    if (size === 0) closeSync(openSync(join(directory, path), 'wx'));
    chmodSync(join(directory, path), fileMode);
  }
  return opened;
}

const modes = (forOthers: boolean) => (forOthers ? { mode: 0o755, fileMode: 0o444 } : { mode: 0o700, fileMode: 0o400 });

/** Into memory: synchronous writes cost less than a thread pool's round trips. Paths were judged with the index. */
function directorySink(directory: string, forOthers: boolean): ExtractSink {
  const { mode, fileMode } = modes(forOthers);
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
