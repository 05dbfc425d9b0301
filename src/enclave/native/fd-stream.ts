import { closeSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { loadKoffi, type PollCallback, type PollHandle } from './koffi.ts';
import { ERRNO, type Libc, libc, SyscallError } from './libc.ts';

type Done = (error?: Error | null) => void;

/** Read at once, for all streams: what arrived is copied out before anything else runs. */
const SCRATCH = Buffer.allocUnsafeSlow(256 << 10);
/** More in one write stalls for ever through vhost-device-vsock 0.3.0 (nitro.md, "Seen to run"). */
const MOST_WRITE = 28_672;
/** Written without a break before others get their turn. */
const TURN = 1 << 20;
const EIO = 5;

/**
 * A byte stream over a non-blocking descriptor, which it owns: for sockets and character devices that `net.Socket`
 * refuses. Nothing blocks a thread. The end of input is a read of no bytes; `endOutput` tells the peer the end of ours,
 * where the descriptor can.
 */
export class FdStream extends Duplex {
  readonly #fd: number;
  readonly #libc: Libc = libc();
  readonly #endOutput: (fd: number) => void;
  readonly #poll: PollHandle;
  /** What the poll handle watches for. */
  #armed = '';
  #reading = false;
  #output: { bytes: Buffer; at: number; done: Done } | undefined;

  constructor(fd: number, endOutput: (fd: number) => void = () => {}) {
    super({ readableHighWaterMark: SCRATCH.length, writableHighWaterMark: 64 << 10 });
    this.#fd = fd;
    this.#endOutput = endOutput;
    this.#poll = loadKoffi().node.poll(fd, { readable: false, writable: false }, this.#heard);
  }

  readonly #heard: PollCallback = (status, events) => {
    if (this.destroyed) return;
    if (status < 0) {
      this.#armed = '';
      // Whoever gets here without an error to show would come back at once, for ever.
      if (!this.#receive() && !this.#send()) this.destroy(new SyscallError('poll', EIO));
    } else {
      if (events.readable && this.#reading) this.#receive();
      if (events.writable && this.#output !== undefined && !this.destroyed) this.#send();
    }
    this.#arm();
  };

  #arm(): void {
    if (this.destroyed) return;
    const wanted = (this.#reading ? 'r' : '') + (this.#output === undefined ? '' : 'w');
    if (wanted === this.#armed) return;
    this.#armed = wanted;
    if (wanted === '') this.#poll.stop();
    else this.#poll.start({ readable: this.#reading, writable: this.#output !== undefined }, this.#heard);
  }

  /** Takes in what is there; true where that was anything, or the end. */
  #receive(): boolean {
    let length = 0;
    let ended = false;
    while (length < SCRATCH.length && !ended) {
      const got = this.#libc.read(this.#fd, SCRATCH.subarray(length));
      if (got > 0) length += got;
      else if (got === 0) ended = true;
      else if (got === -ERRNO.EAGAIN) break;
      else if (got !== -ERRNO.EINTR) {
        this.destroy(new SyscallError('read', got));
        return true;
      }
    }
    if (length > 0 && !this.push(Buffer.from(SCRATCH.subarray(0, length)))) this.#reading = false;
    if (ended) {
      this.#reading = false;
      if (!this.destroyed) this.push(null);
    }
    return length > 0 || ended;
  }

  /** Gives out what there is, as far as the kernel takes it; true where it took any. */
  #send(): boolean {
    const output = this.#output;
    if (output === undefined) return false;
    const start = output.at;
    while (output.at < output.bytes.length && output.at - start < TURN) {
      const sent = this.#libc.write(this.#fd, output.bytes.subarray(output.at, output.at + MOST_WRITE));
      if (sent >= 0) output.at += sent;
      else if (sent === -ERRNO.EAGAIN) break;
      else if (sent !== -ERRNO.EINTR) {
        this.destroy(new SyscallError('write', sent));
        return true;
      }
    }
    if (output.at === output.bytes.length) {
      this.#output = undefined;
      output.done();
    }
    return output.at > start;
  }

  override _read(): void {
    this.#reading = true;
    this.#arm();
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#output = { bytes, at: 0, done };
    this.#send();
    this.#arm();
  }

  override _writev(chunks: { chunk: Buffer }[], done: Done): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'utf8', done);
  }

  override _final(done: Done): void {
    this.#endOutput(this.#fd);
    done();
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#poll.close();
    closeSync(this.#fd);
    this.#output?.done(error ?? new Error('the stream was closed'));
    this.#output = undefined;
    done(error);
  }
}
