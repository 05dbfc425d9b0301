import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { type DigestTask, EifDigester, type EifDigests } from './digests.ts';
import type { LaneData, LaneReply, LaneRequest } from './hash-worker.ts';
import type { EifSectionType } from './layout.ts';

/**
 * Where the bytes of a file are put to be hashed. The same bytes, in the same memory, go to every digest and to the
 * caller: reading the file once per digest would be as fast, but it could change in between.
 */
export interface HashLanes {
  /** Memory for the next bytes; waits until every digest is done with what it held before. */
  acquire(): Promise<Uint8Array>;
  /** The first `length` bytes of what `acquire` gave last are the next bytes of `section`. */
  submit(length: number, section: number): void;
  finish(): Promise<EifDigests>;
  /** Must be called, whatever happened. */
  close(): Promise<void>;
}

const SLOT_BYTES = 1 << 20;
/** Bounds the memory, and covers what is read while the threads start. */
const SLOTS = 16;
/** Starting threads takes about 30 ms of CPU: what hashing 8 MiB does. */
const THREADS_PAY_FROM = 8 << 20;

/** Hashes in worker threads where `bytes` are enough to pay for them, otherwise in this one. */
export function hashLanes(types: EifSectionType[], bytes: number, file: ('sha256' | 'sha384')[]): HashLanes {
  const lanes: DigestTask[][] = [
    ['registers01', 'crc'],
    ['registers2', ...file.filter((name) => name === 'sha256')],
    file.filter((name) => name === 'sha384'),
  ];
  return bytes < THREADS_PAY_FROM
    ? inline(new EifDigester(types, lanes.flat()))
    : new ThreadLanes(
        types,
        lanes.filter((tasks) => tasks.length > 0),
      );
}

function inline(digester: EifDigester): HashLanes {
  const memory = new Uint8Array(SLOT_BYTES);
  return {
    acquire: async () => memory,
    submit: (length, section) => digester.update(memory.subarray(0, length), section),
    finish: async () => digester.finish() as EifDigests,
    close: async () => {},
  };
}

class ThreadLanes implements HashLanes {
  readonly #memory = new SharedArrayBuffer(SLOTS * SLOT_BYTES);
  readonly #workers: Worker[];
  /** How many threads still read each slot. */
  readonly #readers = new Array<number>(SLOTS).fill(0);
  readonly #digests: Promise<Partial<EifDigests>>[];
  #slot = SLOTS - 1;
  #wake: (() => void) | undefined;
  #failure: Error | undefined;

  constructor(types: EifSectionType[], lanes: DigestTask[][]) {
    const url = new URL(`./hash-worker${extname(import.meta.url)}`, import.meta.url);
    this.#workers = lanes.map((tasks) => {
      const workerData: LaneData = { memory: this.#memory, slotBytes: SLOT_BYTES, types, tasks };
      return new Worker(url, { workerData });
    });
    this.#digests = this.#workers.map((worker) => this.#listen(worker));
    for (const digests of this.#digests) digests.catch(() => {});
  }

  async acquire(): Promise<Uint8Array> {
    this.#slot = (this.#slot + 1) % SLOTS;
    while (this.#readers[this.#slot] !== 0) {
      if (this.#failure) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return new Uint8Array(this.#memory, this.#slot * SLOT_BYTES, SLOT_BYTES);
  }

  submit(length: number, section: number): void {
    this.#readers[this.#slot] = this.#workers.length;
    this.#send({ slot: this.#slot, length, section });
  }

  async finish(): Promise<EifDigests> {
    this.#send('finish');
    return Object.assign({}, ...(await Promise.all(this.#digests))) as EifDigests;
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #send(request: LaneRequest): void {
    for (const worker of this.#workers) worker.postMessage(request);
  }

  #listen(worker: Worker): Promise<Partial<EifDigests>> {
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => {
        this.#failure = error;
        this.#wake?.();
        reject(error);
      };
      worker.on('message', (reply: LaneReply) => {
        if ('digests' in reply) {
          resolve(reply.digests);
          return;
        }
        this.#readers[reply.slot] = (this.#readers[reply.slot] ?? 0) - 1;
        this.#wake?.();
      });
      worker.on('error', fail);
      worker.on('exit', () => fail(new Error('a hashing thread ended early')));
    });
  }
}
