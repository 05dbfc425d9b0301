import { applyFilter, applyTest } from './template-filters.ts';
import { attribute } from './template-methods.ts';
import { describe, first, itemOf, refuseOtherMeaning } from './template-nodes.ts';
import { operate } from './template-operators.ts';
import { type Node, nodes, type Scope } from './template-scope.ts';
import {
  type Arguments,
  defined,
  FunctionValue,
  isTrue,
  templateError,
  tuple,
  typeName,
  UndefinedValue,
  type Value,
  weight,
} from './template-values.ts';

/** Bounds on what a hostile template can have us do. About a second, and 16 MiB of text (64 in all that was thrown away too). */
const MAX_STEPS = 2_000_000;
const MAX_TEXT = 16 << 20;

/**
 * Evaluates expressions as jinja2 with StrictUndefined would; what is not here is refused by name. Nothing of the host can be reached:
 * a value is one of ours (template-values.ts), and attributes come from tables.
 */
export class TemplateExpressions {
  readonly #directory: string;
  #steps = 0;
  #text = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  protected bounded(text: string): string {
    this.#text += text.length;
    if (this.#text > 4 * MAX_TEXT || text.length > MAX_TEXT)
      throw templateError(`expected a template that makes at most ${MAX_TEXT} characters`);
    return text;
  }

  protected step(): void {
    if (++this.#steps > MAX_STEPS)
      throw templateError(`expected a template that ends, found one that takes more than ${MAX_STEPS} steps`);
  }

  evaluate(node: Node, scope: Scope): Value {
    this.step();
    switch (node.type) {
      case 'StringLiteral':
        return node.value as string;
      case 'IntegerLiteral':
        if (!Number.isSafeInteger(node.value))
          throw templateError('expected integers of at most 53 bits in the template');
        return BigInt(node.value as number);
      case 'FloatLiteral':
        return node.value as number;
      case 'ArrayLiteral':
        return this.counted(nodes(node.value).map((item) => defined(this.evaluate(item, scope))));
      case 'TupleLiteral':
        return this.counted(tuple(nodes(node.value).map((item) => defined(this.evaluate(item, scope)))));
      case 'ObjectLiteral':
        return this.#dict(node, scope);
      case 'Identifier':
        return this.#name(node.value as string, scope);
      case 'MemberExpression':
        return this.#member(node, scope);
      case 'CallExpression':
        return this.#call(node, scope);
      case 'UnaryExpression':
        return this.#unary(node, scope);
      case 'BinaryExpression':
        return this.#binary(node, scope);
      case 'FilterExpression':
        return this.filter(this.evaluate(node.operand as Node, scope), node.filter as Node, scope);
      case 'TestExpression': {
        const name = (node.test as Node).value as string;
        const value = this.evaluate(node.operand as Node, scope);
        return applyTest(name, /^(un)?defined$/.test(name) ? value : defined(value)) !== node.negate;
      }
      case 'Ternary':
        return this.evaluate(
          (isTrue(this.evaluate(node.condition as Node, scope)) ? node.trueExpr : node.falseExpr) as Node,
          scope,
        );
      case 'SelectExpression':
        if (isTrue(this.evaluate(node.test as Node, scope))) return this.evaluate(node.lhs as Node, scope);
        return new UndefinedValue('an "if" that is false and has no "else"');
      default:
        throw templateError(`unsupported: ${node.type} in a template`);
    }
  }

  #name(name: string, scope: Scope): Value {
    const value = scope.get(name);
    return value === undefined ? new UndefinedValue(`"${name}"`) : value;
  }

  #dict(node: Node, scope: Scope): Value {
    const dict = new Map<string, Value>();
    for (const [key, value] of node.value as Map<Node, Node>) {
      const name = this.evaluate(key, scope);
      if (typeof name !== 'string') throw templateError(`unsupported: ${typeName(name)} as the key of a dict`);
      dict.set(name, defined(this.evaluate(value, scope)));
    }
    return this.counted(dict);
  }

  /** `a.b` is an attribute first and an item second, `a["b"]` the other way round. */
  #member(node: Node, scope: Scope): Value {
    const self = defined(this.evaluate(node.object as Node, scope));
    const property = node.property as Node;
    if (property.type === 'SliceExpression') return this.#slice(self, property, scope);
    const key =
      node.computed || property.type === 'IntegerLiteral'
        ? defined(this.evaluate(property, scope))
        : (property.value as string);
    const item = () => itemOf(self, key);
    const method = () => (typeof key === 'string' ? attribute(self, key, this.#directory) : undefined);
    const value = node.computed ? first(item, method) : first(method, item);
    return value === undefined ? new UndefinedValue(`"${describe(node)}"`) : value;
  }

  #slice(self: Value, node: Node, scope: Scope): Value {
    const [start, stop, step] = ['start', 'stop', 'step'].map((name) => {
      const value = node[name] ? this.evaluate(node[name] as Node, scope) : null;
      if (value !== null && typeof value !== 'bigint')
        throw templateError(`expected an integer to slice with, found ${typeName(value)}`);
      return value === null ? undefined : Number(value);
    });
    if (step !== undefined) throw templateError('unsupported: a slice with a step');
    if (typeof self === 'string') return [...self].slice(start, stop).join('');
    if (Array.isArray(self)) return self.slice(start, stop);
    throw templateError(`expected a string or a list to slice, found ${typeName(self)}`);
  }

  #call(node: Node, scope: Scope): Value {
    const callee = defined(this.evaluate(node.callee as Node, scope));
    if (!(callee instanceof FunctionValue))
      throw templateError(`expected something to call, found ${typeName(callee)}`);
    return this.counted(callee.call(this.#arguments(nodes(node.args), scope)));
  }

  #arguments(given: Node[], scope: Scope): Arguments {
    const result: Arguments = { positional: [], named: new Map() };
    for (const node of given) {
      if (node.type === 'KeywordArgumentExpression') {
        result.named.set((node.key as Node).value as string, defined(this.evaluate(node.value as Node, scope)));
      } else {
        result.positional.push(defined(this.evaluate(node, scope)));
      }
    }
    return result;
  }

  protected filter(value: Value, filter: Node, scope: Scope): Value {
    const call = filter.type === 'CallExpression';
    const name = (call ? (filter.callee as Node) : filter).value;
    if (typeof name !== 'string') throw templateError('unsupported: a filter with more than a name and arguments');
    const given = this.#arguments(call ? nodes(filter.args) : [], scope);
    const operand = name === 'default' || name === 'd' ? value : defined(value);
    return this.counted(applyFilter(name, operand, given));
  }

  #unary(node: Node, scope: Scope): Value {
    const value = defined(this.evaluate(node.argument as Node, scope));
    const operator = (node.operator as Node).value as string;
    if (operator === 'not') return !isTrue(value);
    return operate(operator, 0n, value);
  }

  #binary(node: Node, scope: Scope): Value {
    const operator = (node.operator as Node).value as string;
    refuseOtherMeaning(node, operator);
    const left = this.evaluate(node.left as Node, scope);
    if (operator === 'and') return isTrue(left) ? this.evaluate(node.right as Node, scope) : left;
    if (operator === 'or') return isTrue(left) ? left : this.evaluate(node.right as Node, scope);
    return this.counted(operate(operator, defined(left), defined(this.evaluate(node.right as Node, scope))));
  }

  /** Text and lists that grow cost what they hold, so that neither doubling them nor putting them in each other fills the memory. */
  protected counted(value: Value): Value {
    if (typeof value === 'string') this.bounded(value);
    else if (Array.isArray(value) || value instanceof Map) {
      this.#steps += Array.isArray(value) ? value.length : value.size;
      this.step();
      if (weight(value) > MAX_TEXT)
        throw templateError(`expected lists and dicts that hold at most ${MAX_TEXT} characters`);
    }
    return value;
  }
}
