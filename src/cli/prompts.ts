import { checkbox, confirm, input, select } from '@inquirer/prompts';
import { AtomaError } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import type { Asker } from '../tasks/init/ask.ts';

/** True where a person can be asked: questions go to stderr, as stdout is for results. */
export const canAsk = (): boolean => process.stdin.isTTY === true && process.stderr.isTTY === true;

/** Questions at this terminal. Ctrl-C and Ctrl-D throw `ERR_INTERRUPTED`. */
export function terminalAsker(): Asker {
  return {
    say: (text) => void process.stderr.write(`  ${printable(text)}\n`),
    text: ({ message, fallback, check }) =>
      ask((context) =>
        input(
          {
            message,
            required: true,
            ...(fallback === undefined ? {} : { default: fallback }),
            validate: async (text) => {
              const problem = await check(text);
              return problem === null ? true : printable(problem);
            },
          },
          context,
        ),
      ),
    one: ({ message, choices }) => ask((context) => select({ message, choices: choices.map(shown) }, context)),
    some: ({ message, choices, fallback }) =>
      ask((context) =>
        checkbox(
          {
            message,
            required: true,
            choices: choices.map((choice) => ({ ...shown(choice), checked: fallback.includes(choice.value) })),
          },
          context,
        ),
      ),
    yesNo: ({ message, fallback }) => ask((context) => confirm({ message, default: fallback }, context)),
  };
}

const shown = ({ name, value }: { name: string; value: string }) => ({
  name: printable(name),
  value,
  short: printable(value || name),
});

interface Context {
  output: NodeJS.WriteStream;
  signal: AbortSignal;
}

async function ask<T>(prompt: (context: Context) => Promise<T>): Promise<T> {
  const ended = new AbortController();
  // After Ctrl-D nothing is left that could answer, and the process would just end.
  const end = () => ended.abort();
  process.once('beforeExit', end);
  try {
    return await prompt({ output: process.stderr, signal: ended.signal });
  } catch (error) {
    if (!(error instanceof Error) || !/^(ExitPromptError|AbortPromptError)$/.test(error.name)) throw error;
    throw new AtomaError('unexpected', 'ERR_INTERRUPTED', 'stopped at a question; nothing was made');
  } finally {
    process.off('beforeExit', end);
  }
}
