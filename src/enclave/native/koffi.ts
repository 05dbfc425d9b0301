import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** Watches one descriptor (uv_poll). Close it before the descriptor. */
export interface PollHandle {
  start(events: PollEvents, heard: PollCallback): void;
  stop(): void;
  close(): void;
}

export interface PollEvents {
  readable?: boolean;
  writable?: boolean;
}

/** A status below 0 means that the handle has stopped: the descriptor is in error, which reading or writing tells. */
export type PollCallback = (status: number, events: Required<PollEvents>) => void;

/** What we use of koffi's native half (koffi 3.3, src/koffi/src/ffi.cc). Its JavaScript half stays outside of images. */
export interface Koffi {
  load(library: string): { func(prototype: string): (...args: unknown[]) => unknown };
  /** Of the last call on this thread. */
  errno(): number;
  /** The address of these bytes, which must stay referenced. */
  address(bytes: Uint8Array): bigint;
  node: { poll(fd: number, events: PollEvents, heard: PollCallback): PollHandle };
}

let loaded: Koffi | undefined;

/** In an image the library lies beside the program; in a checkout, where npm put it. */
export function loadKoffi(): Koffi {
  if (loaded === undefined) {
    const beside = fileURLToPath(new URL('./koffi.node', import.meta.url));
    const path = existsSync(beside) ? beside : installed();
    const module = { exports: {} };
    process.dlopen(module, path);
    loaded = module.exports as Koffi;
  }
  return loaded;
}

const installed = (): string => createRequire(import.meta.url).resolve('@koromix/koffi-linux-x64/linux_x64/koffi.node');
