import { type Arguments, templateError, UndefinedValue, type Value } from './template-values.ts';

/** A node of the tree that @huggingface/jinja parses a template into; its types are not exported. */
export interface Node {
  type: string;
  [field: string]: unknown;
}

export const nodes = (value: unknown): Node[] => (value ?? []) as Node[];

/** Names in force. What is set in a loop or a macro is gone after it, as in Jinja. */
export class Scope {
  readonly #names = new Map<string, Value>();
  readonly #outer: Scope | undefined;

  constructor(outer?: Scope) {
    this.#outer = outer;
  }

  get(name: string): Value | undefined {
    const mine = this.#names.get(name);
    return mine === undefined ? this.#outer?.get(name) : mine;
  }

  set(name: string, value: Value): void {
    this.#names.set(name, value);
  }
}

/** Gives a macro's parameters their values; `evaluate` makes those of defaults. */
export function bindParameters(
  macro: string,
  parameters: Node[],
  given: Arguments,
  scope: Scope,
  evaluate: (node: Node) => Value,
): void {
  if (given.positional.length > parameters.length)
    throw templateError(`expected at most ${parameters.length} arguments for the macro "${macro}"`);
  const named = new Map(given.named);
  for (const [i, parameter] of parameters.entries()) {
    const withDefault = parameter.type === 'KeywordArgumentExpression';
    const name = (withDefault ? (parameter.key as Node) : parameter).value as string;
    const value = i < given.positional.length ? given.positional[i] : named.get(name);
    if (i >= given.positional.length) named.delete(name);
    if (value !== undefined) scope.set(name, value);
    else
      scope.set(
        name,
        withDefault
          ? evaluate(parameter.value as Node)
          : new UndefinedValue(`the parameter "${name}" of the macro "${macro}"`),
      );
  }
  const extra = [...named.keys()][0];
  if (extra !== undefined) throw templateError(`expected the parameters of the macro "${macro}", found "${extra}"`);
}
