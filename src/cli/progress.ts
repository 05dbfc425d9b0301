import type { WriteStream } from 'node:tty';
import { SingleBar } from 'cli-progress';
import type { ProgressEvent } from '../core/progress.ts';

/**
 * One bar per phase on a terminal; one line per phase elsewhere, so that a CI log stays readable.
 * A phase that ends before it could be seen is not drawn.
 */
export class Progress {
  readonly #stream: WriteStream;
  readonly #started = new Map<string, number>();
  #bar: { phase: string; single: SingleBar } | undefined;

  constructor(stream: WriteStream) {
    this.#stream = stream;
  }

  /** Bound: it is handed to library functions as a callback. */
  readonly update = (event: ProgressEvent): void => {
    const since = this.#started.get(event.phase);
    if (since === undefined) {
      this.#started.set(event.phase, performance.now());
      if (!this.#stream.isTTY) this.#stream.write(`${event.phase} ...\n`);
    }
    if (!this.#stream.isTTY || event.total === undefined || event.total === 0) return;
    if (event.done >= event.total) this.stop();
    else if (since !== undefined && performance.now() - since > 150) this.#draw(event, event.total);
  };

  /** Clears the line. */
  stop(): void {
    this.#bar?.single.stop();
    this.#bar = undefined;
  }

  #draw(event: ProgressEvent, total: number): void {
    const bytes = event.unit !== 'items';
    const show = (n: number) => (bytes ? `${(n / 1e6).toFixed(0)} MB` : String(n));
    if (this.#bar?.phase !== event.phase) {
      this.stop();
      const single = new SingleBar({
        stream: this.#stream,
        clearOnComplete: true,
        hideCursor: true,
        barsize: 30,
        etaBuffer: 20,
        format: `${event.phase.padEnd(28)} {bar} {percentage}% {shown} {eta_formatted}`,
        barCompleteChar: '█',
        barIncompleteChar: '░',
      });
      single.start(total, event.done, { shown: '' });
      this.#bar = { phase: event.phase, single };
    }
    this.#bar.single.update(event.done, { shown: `${show(event.done)} of ${show(total)}` });
  }
}
