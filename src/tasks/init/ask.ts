import { usageError } from '../../core/errors.ts';

/** Who answers where no flag did: a person at a terminal (src/cli/prompts.ts), or a test. */
export interface Asker {
  /** A line between questions. */
  say(text: string): void;
  text(question: {
    message: string;
    fallback?: string | undefined;
    check(answer: string): Promise<string | null>;
  }): Promise<string>;
  one(question: { message: string; choices: { name: string; value: string }[]; fallback?: string }): Promise<string>;
  some(question: {
    message: string;
    choices: { name: string; value: string }[];
    fallback: string[];
  }): Promise<string[]>;
  yesNo(question: { message: string; fallback: boolean }): Promise<boolean>;
}

export interface Question<T> {
  /** With its dashes, and how its default is written on a command line. */
  flag: string;
  /** What `--yes` takes; absent where there is no sensible one. */
  fallback?: T | undefined;
  written?: (fallback: T) => string;
  ask(asker: Asker): Promise<T>;
}

/**
 * Answers, from the flags, else from defaults (`yes`), else from the asker. Without any of these every open question is noted, so
 * that one error can name all flags.
 */
export class Answers {
  readonly #asker: Asker | undefined;
  readonly #yes: boolean;
  readonly #open: { flag: string; instead?: string }[] = [];

  constructor({ asker, yes }: { asker: Asker | undefined; yes: boolean }) {
    this.#asker = asker;
    this.#yes = yes;
  }

  /** To the person who is asked, if there is one. */
  say(text: string): void {
    if (!this.#yes) this.#asker?.say(text);
  }

  async get<T>(given: T | undefined, { flag, fallback, written, ask }: Question<T>): Promise<T> {
    if (given !== undefined) return given;
    if (this.#yes && fallback !== undefined) return fallback;
    if (!this.#yes && this.#asker !== undefined) return ask(this.#asker);
    this.#open.push(
      fallback === undefined ? { flag } : { flag, instead: written?.(fallback) ?? `${flag} ${fallback}` },
    );
    if (fallback === undefined) this.requireAll();
    return fallback as T;
  }

  /** Throws `ERR_INIT_ANSWER` (exit 2) where a question is open. */
  requireAll(): void {
    if (this.#open.length === 0) return;
    const flags = this.#open.map(({ flag }) => flag);
    const defaults = this.#open.flatMap(({ instead }) => instead ?? []);
    const why = this.#yes ? 'there is no default for it' : 'there is no terminal to ask on';
    throw usageError('ERR_INIT_ANSWER', `expected ${flags.join(', ')}: ${why}`, {
      hint: defaults.length > 0 ? `--yes takes the defaults: ${defaults.join(' ')}` : `give ${flags.join(' and ')}`,
      details: { flags },
    });
  }
}
