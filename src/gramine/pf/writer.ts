import { randomBytes, randomFillSync } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { badSize, tampered } from './errors.ts';
import {
  childrenOf,
  DATA_PER_MHT,
  ENTRY,
  INLINE,
  KEY,
  mhtOffset,
  NODE,
  parentOf,
  pathBytes,
  type Tree,
  treeOf,
} from './layout.ts';
import { type PfVersion, sealMetadata } from './metadata.ts';
import { decryptNode, encryptNode } from './node.ts';

/** Where a protected file is written: at positions, some of them twice. An open file is one. */
export type PfTarget = Pick<FileHandle, 'read' | 'write'>;

export interface PfWriterOptions {
  /** 16 bytes. */
  wrapKey: Uint8Array;
  /** As normalisePath made it: what Gramine will insist on. */
  path: string;
  /** Of the data; exactly so many bytes have to be written. */
  size: number;
  version: PfVersion;
}

/**
 * Writes one protected file from data that comes in order.
 *
 * An MHT node holds the tags of MHT nodes that lie after it, so it cannot be encrypted when its turn comes. One without children
 * can; one with children (one in 32) is put aside in its own place of the file, encrypted and authenticated under a key that is
 * forgotten at the end, and comes back when the first of its children is ready. Only a few are in memory at a time, whatever the
 * size. The file is not valid before finish(): its first node is written last.
 */
export class ProtectedFileWriter {
  readonly #target: PfTarget;
  readonly #options: PfWriterOptions;
  readonly #tree: Tree;
  readonly #inline = Buffer.alloc(INLINE);
  /** Data that does not fill a node yet. */
  readonly #rest = Buffer.alloc(NODE);
  /** An MHT and its data nodes as they go to the file, and the ones before, which are on their way. */
  #group: Buffer;
  #other: Buffer;
  #onItsWay: Promise<void> = Promise.resolve();
  /** The MHT of the group, in the clear. */
  #mht: Buffer = Buffer.alloc(NODE);
  #node = 0;
  #written = 0;
  readonly #asideKey = randomBytes(KEY);
  readonly #asideTags: Buffer[] = [];
  readonly #waiting = new Map<number, { plain: Buffer; missing: number }>();
  #root: Buffer = Buffer.alloc(ENTRY);
  #mostHeld = 0;

  /** Throws `ERR_PF_NAME`, `ERR_PF_SIZE` (exit 2). */
  constructor(target: PfTarget, options: PfWriterOptions) {
    pathBytes(options.path);
    this.#target = target;
    this.#options = options;
    this.#tree = treeOf(options.size);
    const nodes = this.#tree.data === 0 ? 0 : 1 + Math.min(DATA_PER_MHT, this.#tree.data);
    this.#group = Buffer.alloc(nodes * NODE);
    this.#other = Buffer.alloc(this.#tree.mhts > 1 ? nodes * NODE : 0);
  }

  /** The most MHT nodes that were waiting for children at once. */
  get mostHeld(): number {
    return this.#mostHeld;
  }

  async write(chunk: Uint8Array): Promise<void> {
    if (chunk.length > this.#options.size - this.#written)
      throw new RangeError('more data than the size that was given');
    let at = 0;
    if (this.#written < INLINE) {
      const first = chunk.subarray(0, INLINE - this.#written);
      this.#inline.set(first, this.#written);
      this.#written += first.length;
      at = first.length;
    }
    while (at < chunk.length) {
      const filled = (this.#written - INLINE) % NODE;
      const piece = chunk.subarray(at, at + NODE - filled);
      at += piece.length;
      this.#written += piece.length;
      if (piece.length === NODE) await this.#add(piece);
      else {
        this.#rest.set(piece, filled);
        if (filled + piece.length === NODE) await this.#add(this.#rest);
      }
    }
  }

  /** Makes the file whole. All data must have been written. */
  async finish(): Promise<void> {
    const { size, path, version, wrapKey } = this.#options;
    if (this.#written !== size) throw new RangeError(`${this.#written} bytes of data were written, not ${size}`);
    if (this.#node < this.#tree.data) await this.#add(this.#rest.fill(0, (size - INLINE) % NODE));
    await this.#onItsWay;
    const metadata = sealMetadata(version, { path, size, root: this.#root, inline: this.#inline }, wrapKey);
    await this.#put(metadata, 0);
    for (const secret of [this.#inline, this.#rest, this.#mht, this.#root, this.#asideKey]) secret.fill(0);
  }

  async #add(plain: Uint8Array): Promise<void> {
    const slot = this.#node % DATA_PER_MHT;
    if (slot === 0) randomKeys(this.#mht);
    const key = this.#mht.subarray(slot * ENTRY, slot * ENTRY + KEY);
    const place = this.#group.subarray((1 + slot) * NODE, (2 + slot) * NODE);
    encryptNode(place, key, plain).copy(this.#mht, slot * ENTRY + KEY);
    this.#node++;
    if (slot === DATA_PER_MHT - 1 || this.#node === this.#tree.data) await this.#endGroup(slot + 1);
  }

  async #endGroup(count: number): Promise<void> {
    const mht = Math.ceil(this.#node / DATA_PER_MHT) - 1;
    const leaf = mht >= this.#tree.interior;
    this.#mht.fill(0, count * ENTRY);
    const entry = Buffer.alloc(ENTRY);
    const place = this.#group.subarray(0, NODE);
    if (leaf) encryptMht(place, this.#mht, entry);
    else this.#asideTags[mht] = encryptNode(place, this.#asideKey, this.#mht, asideIv(mht));
    await this.#putGroup(count, mhtOffset(mht));
    if (leaf) await this.#ready(mht, entry);
  }

  /** An MHT node is encrypted: its parent gets its key and tag, and is ready too if it was the last child. */
  async #ready(mht: number, entry: Buffer): Promise<void> {
    if (mht === 0) {
      this.#root = entry;
      return;
    }
    const { parent, at } = parentOf(mht);
    const node = this.#waiting.get(parent) ?? (await this.#takeBack(parent));
    entry.copy(node.plain, at);
    entry.fill(0);
    if (--node.missing > 0) return;
    this.#waiting.delete(parent);
    const own = Buffer.alloc(ENTRY);
    const bytes = Buffer.alloc(NODE);
    encryptMht(bytes, node.plain, own);
    node.plain.fill(0);
    await this.#put(bytes, mhtOffset(parent));
    await this.#ready(parent, own);
  }

  async #takeBack(mht: number) {
    const bytes = Buffer.alloc(NODE);
    for (let done = 0; done < NODE; ) {
      const { bytesRead } = await this.#target.read(bytes, done, NODE - done, mhtOffset(mht) + done);
      if (bytesRead === 0) throw badSize('a protected file became shorter while it was being written');
      done += bytesRead;
    }
    const tag = this.#asideTags[mht] ?? Buffer.alloc(KEY);
    const plain = decryptNode(this.#asideKey, tag, bytes, asideIv(mht));
    if (!plain) throw tampered(`tree node ${mht}, while the file was being written,`);
    const node = { plain, missing: childrenOf(mht, this.#tree.mhts) };
    this.#waiting.set(mht, node);
    this.#mostHeld = Math.max(this.#mostHeld, this.#waiting.size);
    return node;
  }

  /** Writes the group while the next one is encrypted; there are never more than these two. */
  async #putGroup(count: number, position: number): Promise<void> {
    await this.#onItsWay;
    this.#onItsWay = this.#put(this.#group.subarray(0, (1 + count) * NODE), position);
    this.#onItsWay.catch(() => {}); // whoever waits for it gets the error
    [this.#group, this.#other] = [this.#other, this.#group];
  }

  async #put(bytes: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      done += (await this.#target.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
    }
  }
}

/** Fresh keys for the data nodes of an MHT; their tags come later. */
function randomKeys(mht: Buffer): void {
  randomFillSync(mht, 0, DATA_PER_MHT * ENTRY);
}

/** Encrypts an MHT into `out` under a fresh key; `entry` gets key and tag. */
function encryptMht(out: Buffer, plain: Uint8Array, entry: Buffer): void {
  randomFillSync(entry, 0, KEY);
  encryptNode(out, entry.subarray(0, KEY), plain).copy(entry, KEY);
}

/** What is put aside shares one key, each node once. */
function asideIv(mht: number): Buffer {
  const iv = Buffer.alloc(12);
  iv.writeUIntBE(mht, 6, 6);
  return iv;
}
