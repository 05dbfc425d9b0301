import { createHash, type Hash, hash as hashOf } from 'node:crypto';
import { badEntry, tooMuch } from './layer-errors.ts';
import { type LayerEntry, LayerTar, type LayerType } from './layer-tar.ts';
import { meaningOf } from './whiteout.ts';

/** One entry of a layer as merging needs it. */
export interface LayerMember extends Omit<LayerEntry, 'type'> {
  /** A whiteout's or an opaque directory's `path` is what it hides. */
  type: LayerType | 'whiteout' | 'opaque';
  /** Hex, of a file's content. */
  sha256?: string;
  /** Which layer it is of, counted from the base; known once layers are merged. */
  layer?: number;
}

export interface LayerIndex {
  /** In the order of the tar. */
  members: LayerMember[];
  /** Entries of AUFS's book-keeping, which are ignored. */
  metadata: number;
}

/** What one image may have, over all its layers. */
export interface ImageLimits {
  /** Bytes of uncompressed layers. */
  bytes: number;
  /** Entries of all layers; each costs memory, and the ramdisk reader takes half a million. */
  entries: number;
  /** Bytes of names and link targets. */
  names: number;
}

export const IMAGE_LIMITS: ImageLimits = { bytes: 64 * 2 ** 30, entries: 400_000, names: 96 * 2 ** 20 };
/** gzip's best is 1032 to 1; nothing that anybody ships comes near. */
const MAX_RATIO = 1000;
const SLACK = 64 * 2 ** 20;
const EMPTY_SHA256 = hashOf('sha256', '', 'hex');

/** What is left of an image's limits; layers that are read at the same time share it. */
export class Budget {
  readonly #limits: ImageLimits;
  readonly #used: ImageLimits = { bytes: 0, entries: 0, names: 0 };

  constructor(limits: ImageLimits = IMAGE_LIMITS) {
    this.#limits = limits;
  }

  /** Throws `ERR_LAYER_TOO_LARGE` (exit 2). */
  spend(kind: keyof ImageLimits, amount: number, what: string): void {
    this.#used[kind] += amount;
    if (this.#used[kind] <= this.#limits[kind]) return;
    const limit = this.#limits[kind];
    if (kind === 'bytes') throw tooMuch(what, `takes the unpacked image beyond ${limit} bytes`);
    if (kind === 'entries') throw tooMuch(what, `takes the image beyond ${limit} entries`);
    throw tooMuch(what, `takes the names of the image's files beyond ${limit} bytes`);
  }

  /** For a reading that came to nothing. */
  refund(spent: ImageLimits): void {
    for (const kind of ['bytes', 'entries', 'names'] as const) this.#used[kind] -= spent[kind];
  }
}

/**
 * Indexes a layer while its uncompressed bytes go by: `write` each chunk, then `end`. Both digests, the layer's and each
 * file's, are computed on the way.
 */
export class LayerIndexer {
  readonly #what: string;
  readonly #budget: Budget;
  readonly #maxBytes: number;
  readonly #tar: LayerTar;
  readonly #whole = createHash('sha256');
  readonly #index: LayerIndex = { members: [], metadata: 0 };
  readonly #spent: ImageLimits = { bytes: 0, entries: 0, names: 0 };
  #hash: Hash | undefined;
  #member: LayerMember | undefined;

  /** `storedSize`: bytes of the layer as stored; what it unpacks to is bounded by that. */
  constructor(what: string, storedSize: number, budget: Budget) {
    this.#what = what;
    this.#budget = budget;
    this.#maxBytes = storedSize * MAX_RATIO + SLACK;
    this.#tar = new LayerTar(
      {
        entry: (entry) => this.#entry(entry),
        data: (chunk) => this.#data(chunk),
        done: () => {
          if (this.#member?.type === 'file') this.#member.sha256 ??= this.#hash?.digest('hex') ?? EMPTY_SHA256;
        },
      },
      what,
    );
  }

  write(chunk: Uint8Array): void {
    this.#spend('bytes', chunk.length);
    if (this.#spent.bytes > this.#maxBytes)
      throw tooMuch(this.#what, `unpacks to more than ${this.#maxBytes} bytes, ${MAX_RATIO} times what is stored`);
    this.#whole.update(chunk);
    this.#tar.write(chunk);
  }

  /** There are no more bytes. `digest` is the whole layer's, hex. */
  end(): { index: LayerIndex; digest: string } {
    this.#tar.end();
    return { index: this.#index, digest: this.#whole.digest('hex') };
  }

  /** Gives back what was spent: nothing of the layer is kept. */
  abandon(): void {
    this.#budget.refund(this.#spent);
  }

  #spend(kind: keyof ImageLimits, amount: number): void {
    this.#spent[kind] += amount;
    this.#budget.spend(kind, amount, this.#what);
  }

  /** Most files come in one piece: those need no hash object, of which there would be more than the collector keeps up with. */
  #data(chunk: Uint8Array): void {
    if (this.#member === undefined) return;
    if (this.#hash === undefined && chunk.length === this.#member.size)
      this.#member.sha256 = hashOf('sha256', chunk, 'hex');
    else {
      this.#hash ??= createHash('sha256');
      this.#hash.update(chunk);
    }
  }

  #entry(entry: LayerEntry): void {
    this.#spend('entries', 1);
    this.#spend('names', entry.path.length + (entry.target?.length ?? 0));
    this.#hash = this.#member = undefined;
    const meaning = meaningOf(entry.path, entry.type, entry.size, this.#what);
    if (meaning.kind === 'metadata') {
      this.#index.metadata++;
      return;
    }
    if (entry.type === 'link' && entry.target === '')
      throw badEntry(this.#what, entry.path, 'is a hard link to the root');
    const { kind } = meaning;
    const member: LayerMember = entry;
    if (kind !== 'plain') Object.assign(member, { type: kind, path: meaning.path });
    this.#index.members.push(member);
    if (member.type === 'file') this.#member = member;
  }
}
