import type { Writable } from 'node:stream';
import type { OnProgress } from '../core/progress.ts';
import { type MeasuredEif, type StreamOptions, streamEif } from '../nitro/index.ts';
import { FRAME, frameHeader } from './frames.ts';

/**
 * Measures an image and feeds its ramdisks to the stage in the same pass over the file; `tap` may listen in. The stage
 * holds still until it is told to go. Throws what `streamEif` and `tap` throw, and EPIPE where the stage has ended.
 */
export function feedImage(
  eif: string,
  stage: Writable,
  tap: StreamOptions['onRamdisk'],
  onProgress?: OnProgress,
): Promise<MeasuredEif> {
  return streamEif(eif, {
    onProgress,
    onRamdisk(index) {
      const listener = tap?.(index);
      return {
        async write(chunk) {
          const sent = send(stage, FRAME.data, chunk);
          await listener?.write(chunk);
          await sent;
        },
        async end() {
          await listener?.end();
          await send(stage, FRAME.end);
        },
      };
    },
  });
}

export const sendGo = (stage: Writable): Promise<void> => send(stage, FRAME.go);

/** Resolves when the bytes have left: their memory is somebody else's. */
function send(stage: Writable, type: number, data: Uint8Array = new Uint8Array(0)): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error | null) => (error ? reject(error) : resolve());
    stage.cork();
    stage.write(frameHeader(type, data.length), data.length === 0 ? done : undefined);
    if (data.length > 0) stage.write(data, done);
    stage.uncork();
  });
}
