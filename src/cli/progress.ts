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
  #bar: { phase: string; single: SingleBar; since: number; from: number } | undefined;

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
    const [unit, scale, digits] = total < 10e9 ? ['MB', 1e6, 0] : ['GB', 1e9, 1];
    const show = (n: number) => (bytes ? (n / scale).toFixed(digits) : String(n));
    if (this.#bar?.phase !== event.phase) {
      this.stop();
      const single = new SingleBar({
        stream: this.#stream,
        clearOnComplete: true,
        hideCursor: true,
        // The rest of the line takes some seventy columns, and what does not fit is cut off: the time left.
        barsize: Math.min(30, Math.max(8, (this.#stream.columns || 80) - 74)),
        etaBuffer: 20,
        format: `${event.phase.padEnd(28)} {bar} {percentage}% {shown} {rate}{eta_formatted} left`,
        barCompleteChar: '█',
        barIncompleteChar: '░',
      });
      single.start(total, event.done, { shown: '', rate: '' });
      this.#bar = { phase: event.phase, single, since: performance.now(), from: event.done };
    }
    const { single, since, from } = this.#bar;
    const perSecond = ((event.done - from) * 1000) / (performance.now() - since);
    // Without a history a rate means nothing.
    const rate = bytes && performance.now() - since > 500 ? `${(perSecond / 1e6).toFixed(0)} MB/s ` : '';
    single.update(event.done, { shown: `${show(event.done)} of ${show(total)}${bytes ? ` ${unit}` : ''}`, rate });
  }
}
