/** Exit codes are a contract with CI scripts: see docs/errors.md. */
export const EXIT = { unexpected: 1, usage: 2, negative: 3, refused: 4, missing: 5 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export interface ErrorOptions {
  /** What the user can do about it. */
  hint?: string;
  /** Structured facts for `--json`; never a secret. */
  details?: Record<string, unknown>;
  cause?: unknown;
}

/**
 * The one error class. `code` is stable and documented; `message` is one sentence that says what was
 * expected and what was found. Secrets never go into any field.
 */
export class AtomaError extends Error {
  readonly code: `ERR_${string}`;
  readonly exitCode: ExitCode;
  readonly hint: string | undefined;
  readonly details: Record<string, unknown> | undefined;

  constructor(exit: keyof typeof EXIT, code: `ERR_${string}`, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AtomaError';
    this.code = code;
    this.exitCode = EXIT[exit];
    this.hint = options.hint;
    this.details = options.details;
  }

  /** The shape that `--json` prints (cli contract). */
  toJSON(): { code: string; message: string; hint?: string; details?: Record<string, unknown> } {
    return {
      code: this.code,
      message: this.message,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(this.details === undefined ? {} : { details: this.details }),
    };
  }
}

/** Bad usage, bad configuration or a malformed input file (exit 2). */
export const usageError = (code: `ERR_${string}`, message: string, options?: ErrorOptions) =>
  new AtomaError('usage', code, message, options);

/** Tampered, mismatched, untrusted, expired, not reproducible (exit 3). */
export const negativeError = (code: `ERR_${string}`, message: string, options?: ErrorOptions) =>
  new AtomaError('negative', code, message, options);

/** A broker or a policy said no (exit 4). */
export const refusedError = (code: `ERR_${string}`, message: string, options?: ErrorOptions) =>
  new AtomaError('refused', code, message, options);

/** A prerequisite is missing; the hint is the mend (exit 5). */
export const missingError = (code: `ERR_${string}`, message: string, options?: ErrorOptions) =>
  new AtomaError('missing', code, message, options);
