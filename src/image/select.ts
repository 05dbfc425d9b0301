import { posix } from 'node:path';
import { usageError } from '../core/errors.ts';
import type { Rule } from './lock-file.ts';

/** A rule as it applies to one file of a package. */
export interface Selected {
  rule: Rule;
  /** Where the file goes, inside the rule's part. */
  to: string;
}

/**
 * Applies an entry's rules to the files of its package as they go by. A file can be selected by several rules.
 * `finish` throws `ERR_INPUT_SELECTION` (exit 2) unless every rule selected something, and a rule that names one
 * destination exactly one file: a package that has changed its layout must not give a smaller image in silence.
 */
export class Selector {
  readonly #rules: { rule: Rule; pattern: RegExp; matched: string[] }[];
  readonly #what: string;

  constructor(rules: Rule[], what: string) {
    this.#rules = rules.map((rule) => ({ rule, pattern: globPattern(rule.from), matched: [] }));
    this.#what = what;
  }

  select(path: string): Selected[] {
    const selected: Selected[] = [];
    for (const entry of this.#rules) {
      if (!entry.pattern.test(path)) continue;
      entry.matched.push(path);
      const { rule } = entry;
      selected.push({ rule, to: rule.to.endsWith('/') ? rule.to + posix.basename(path) : rule.to });
    }
    return selected;
  }

  finish(): void {
    for (const { rule, matched } of this.#rules) {
      if (matched.length === 0) {
        throw usageError('ERR_INPUT_SELECTION', `${this.#what}: expected a file ${rule.from}, found none`);
      }
      if (matched.length > 1 && !rule.to.endsWith('/')) {
        throw usageError(
          'ERR_INPUT_SELECTION',
          `${this.#what}: expected one file ${rule.from}, found ${matched.slice(0, 3).join(', ')}`,
        );
      }
    }
  }
}

/** "*" stands for any run of characters but "/"; everything else for itself. */
export const globPattern = (glob: string): RegExp =>
  new RegExp(`^${glob.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replace(/\*+/g, '[^/]*')}$`);
