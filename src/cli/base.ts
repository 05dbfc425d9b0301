import { Command, Flags } from '@oclif/core';
import { AtomaError } from '../core/errors.ts';
import type { OnProgress } from '../core/progress.ts';
import { isJson, renderError } from './error.ts';
import { Progress } from './progress.ts';

/**
 * What every command shares: `--json` (the value that `run` returns, alone on stdout), progress on stderr, and
 * errors left to main.ts. A command parses flags, calls one function of src/tasks, and renders what it returned.
 */
export abstract class BaseCommand extends Command {
  static override enableJsonFlag = true;
  // Acted upon in bin/run.js, before anything that colours is loaded.
  static override baseFlags = {
    'no-color': Flags.boolean({ description: 'no colours, whatever the terminal can do', helpGroup: 'GLOBAL' }),
  };

  #progress: Progress | undefined;

  /** A command that ends by itself when it is told to overrides this. */
  protected handlesSignals = false;

  /** Ctrl-C ends a command like a failure does: temporary files go (core/temporary.ts), and the exit code says so. */
  protected override async init(): Promise<void> {
    await super.init();
    if (this.handlesSignals) return;
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => this.#interrupt(signal));
  }

  #interrupt(signal: string): never {
    this.#progress?.stop();
    const error = new AtomaError(
      'unexpected',
      'ERR_INTERRUPTED',
      `stopped by ${signal}; nothing was left half-written`,
    );
    renderError(error, isJson(this.argv));
    process.exit(error.exitCode);
  }

  /** Draws progress on stderr; a command that is done or failed leaves no half-drawn line. */
  protected get onProgress(): OnProgress {
    this.#progress ??= new Progress(process.stderr);
    return this.#progress.update;
  }

  /** A line for people, on stderr. */
  protected note(text: string): void {
    this.#progress?.stop();
    process.stderr.write(`${text}\n`);
  }

  override logJson(json: unknown): void {
    process.stdout.write(`${JSON.stringify(json, null, 2)}\n`);
  }

  protected override async catch(error: Error): Promise<void> {
    throw error;
  }

  protected override async finally(): Promise<void> {
    this.#progress?.stop();
  }
}
