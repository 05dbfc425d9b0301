/** Two transfers fill a line that one cannot, and more only take each other's place. */
const WIDTH = 2;

/** Transfers side by side; the first that fails ends the others. */
export class Lanes {
  /** Ends when a transfer fails, or from outside. */
  readonly signal: AbortSignal;
  readonly #stop = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #failure: { error: unknown } | null = null;

  constructor(outside: AbortSignal | undefined) {
    this.signal = outside ? AbortSignal.any([outside, this.#stop.signal]) : this.#stop.signal;
  }

  /** Waits for a free lane, not for the transfer. Throws where one has failed. */
  async start(transfer: (signal: AbortSignal) => Promise<void>): Promise<void> {
    while (this.#running.size >= WIDTH && this.#failure === null) await Promise.race(this.#running);
    this.signal.throwIfAborted();
    const running = transfer(this.signal)
      .catch((error) => {
        this.#failure ??= { error };
        this.#stop.abort(error);
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Runs what starts transfers, and waits for all of them, whatever happens. Throws what failed first. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    try {
      const result = await work();
      await Promise.all(this.#running);
      if (this.#failure !== null) throw this.#failure.error;
      return result;
    } catch (error) {
      this.#stop.abort(error);
      await Promise.all(this.#running);
      throw this.#failure === null ? error : (this.#failure as { error: unknown }).error;
    }
  }
}
