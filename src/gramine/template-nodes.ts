import type { Node } from './template-scope.ts';
import { templateError, type Value } from './template-values.ts';

/** None (null) is a value. */
export function first(one: () => Value | undefined, other: () => Value | undefined): Value | undefined {
  const value = one();
  return value === undefined ? other() : value;
}

const COMPARISONS = ['==', '!=', '<', '>', '<=', '>=', 'in', 'not in'];

/** Where the parser reads operators in another order than Jinja does: nothing is computed rather than something else. */
export function refuseOtherMeaning(node: Node, operator: string): void {
  const left = node.left as Node;
  const inner = left.type === 'BinaryExpression' ? ((left.operator as Node).value as string) : '';
  if (COMPARISONS.includes(operator) && COMPARISONS.includes(inner))
    throw templateError('unsupported: a chain of comparisons');
  if (operator === '~' && (inner === '+' || inner === '-')) throw templateError(`unsupported: "${inner}" before "~"`);
}

export function itemOf(self: Value, key: Value): Value | undefined {
  if (self instanceof Map) return typeof key === 'string' ? self.get(key) : undefined;
  if (typeof key !== 'bigint') return undefined;
  if (Array.isArray(self)) return self.at(Number(key));
  return typeof self === 'string' ? [...self].at(Number(key)) : undefined;
}

/** "a.b" for an error text. */
export function describe(node: Node): string {
  const object = node.object as Node;
  const before =
    object.type === 'MemberExpression' ? describe(object) : object.type === 'Identifier' ? String(object.value) : '...';
  const property = node.property as Node;
  const after = ['Identifier', 'StringLiteral', 'IntegerLiteral'].includes(property.type)
    ? String(property.value)
    : '...';
  return node.computed ? `${before}[${after}]` : `${before}.${after}`;
}
