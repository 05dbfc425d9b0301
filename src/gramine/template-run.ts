import { TemplateExpressions } from './template-expressions.ts';
import { items } from './template-filters.ts';
import { bindParameters, type Node, nodes, Scope } from './template-scope.ts';
import { defined, FunctionValue, isTrue, pythonText, templateError, type Value } from './template-values.ts';

/** Runs a parsed template: its statements. Those that are not here are refused by name. */
export class TemplateRun extends TemplateExpressions {
  block(statements: Node[], scope: Scope): string {
    const parts: string[] = [];
    for (const statement of statements) parts.push(this.#statement(statement, scope));
    return this.bounded(parts.join(''));
  }

  #statement(node: Node, scope: Scope): string {
    this.step();
    switch (node.type) {
      case 'Comment':
        return '';
      case 'Set':
        this.#assign(node, scope);
        return '';
      case 'If':
        return this.block(nodes(isTrue(this.evaluate(node.test as Node, scope)) ? node.body : node.alternate), scope);
      case 'For':
        return this.#loop(node, scope);
      case 'Macro':
        scope.set((node.name as Node).value as string, this.#macro(node, scope));
        return '';
      case 'FilterStatement':
        return pythonText(this.filter(this.block(nodes(node.body), new Scope(scope)), node.filter as Node, scope));
      case 'Break':
      case 'Continue':
      case 'CallStatement':
        throw templateError(
          `unsupported: the statement "${node.type === 'CallStatement' ? 'call' : node.type.toLowerCase()}"`,
        );
      case 'SelectExpression':
        // Jinja prints nothing for an "if" without "else", also where it is strict.
        return isTrue(this.evaluate(node.test as Node, scope))
          ? pythonText(this.evaluate(node.lhs as Node, scope))
          : '';
      default:
        return pythonText(this.evaluate(node, scope));
    }
  }

  #assign(node: Node, scope: Scope): void {
    const value = node.value
      ? this.evaluate(node.value as Node, scope)
      : this.block(nodes(node.body), new Scope(scope));
    this.#bind(node.assignee as Node, defined(value), scope);
  }

  #bind(target: Node, value: Value, scope: Scope): void {
    if (target.type === 'Identifier') {
      scope.set(target.value as string, value);
      return;
    }
    if (target.type !== 'TupleLiteral') throw templateError('unsupported: assignment to anything but names');
    const names = nodes(target.value);
    const values = items(value);
    if (names.length !== values.length)
      throw templateError(`expected ${names.length} values to assign, found ${values.length}`);
    names.forEach((name, i) => {
      this.#bind(name, values[i] ?? null, scope);
    });
  }

  #loop(node: Node, scope: Scope): string {
    let iterable = node.iterable as Node;
    let only: Node | undefined;
    if (iterable.type === 'SelectExpression') {
      only = iterable.test as Node;
      iterable = iterable.lhs as Node;
    }
    const target = node.loopvar as Node;
    const all = items(defined(this.evaluate(iterable, scope)));
    const scopes = all.flatMap((item) => {
      this.step();
      const inner = new Scope(scope);
      this.#bind(target, item, inner);
      return only && !isTrue(this.evaluate(only, inner)) ? [] : [inner];
    });
    if (scopes.length === 0) return this.block(nodes(node.defaultBlock), new Scope(scope));
    const parts = scopes.map((inner, i) => {
      inner.set('loop', loopValue(i, scopes.length));
      return this.block(nodes(node.body), inner);
    });
    return this.bounded(parts.join(''));
  }

  #macro(node: Node, scope: Scope): FunctionValue {
    const name = (node.name as Node).value as string;
    return new FunctionValue(name, (given) => {
      this.step();
      const inner = new Scope(scope);
      bindParameters(name, nodes(node.args), given, inner, (value) => this.evaluate(value, inner));
      return this.block(nodes(node.body), inner);
    });
  }
}

const loopValue = (i: number, length: number): Value =>
  new Map<string, Value>([
    ['index', BigInt(i + 1)],
    ['index0', BigInt(i)],
    ['revindex', BigInt(length - i)],
    ['revindex0', BigInt(length - i - 1)],
    ['first', i === 0],
    ['last', i === length - 1],
    ['length', BigInt(length)],
  ]);
