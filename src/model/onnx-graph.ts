import { type Field, WireError, type WireFile } from './wire.ts';

/** Graphs inside graphs: the branches of If, the bodies of loops. */
const MAX_DEPTH = 32;
const MAX_OPERATORS = 10_000;
const MAX_NAME = 4096;

/** Counts what is in the graphs and functions of an ONNX file (GraphProto, FunctionProto, NodeProto, TensorProto). */
export class OnnxCount {
  readonly #file: WireFile;
  readonly #operators = new Map<string, number>();
  #parameters = 0;
  #external = 0;

  constructor(file: WireFile) {
    this.#file = file;
  }

  result() {
    const names = [...this.#operators.keys()].sort((a, b) => (a < b ? -1 : 1));
    const operators = names.map((name) => ({ name, count: this.#operators.get(name) ?? 0 }));
    return { operators, parameters: this.#parameters, externalTensors: this.#external };
  }

  /** A GraphProto: nodes 1, initializers 5, sparse ones 15. Returns which of `inputs` it gives a value to. */
  graph(message: Field, inputs: Set<string> = new Set(), depth = 0): Set<string> {
    const given = new Set<string>();
    this.body(message, 1, depth);
    for (const field of this.#file.fields(message.start, message.end)) {
      if (field.wire !== 2 || (field.id !== 5 && field.id !== 15)) continue;
      const name = field.id === 5 ? this.#tensor(field) : this.#sparse(field);
      if (inputs.has(name)) given.add(name);
    }
    return given;
  }

  /** The nodes of a graph (field 1) or of a function (field 7). */
  body(message: Field, nodes: number, depth: number): void {
    if (depth > MAX_DEPTH) throw new WireError(`its graphs are nested more than ${MAX_DEPTH} deep`);
    for (const field of this.#file.fields(message.start, message.end)) {
      if (field.wire === 2 && field.id === nodes) this.#node(field, depth);
    }
  }

  /** op_type 4, attributes 5, domain 7. */
  #node(message: Field, depth: number): void {
    let [operator, domain] = ['', ''];
    for (const field of this.#file.fields(message.start, message.end)) {
      if (field.wire !== 2) continue;
      if (field.id === 4) operator = this.#file.text(field, MAX_NAME) ?? '?';
      if (field.id === 7) domain = this.#file.text(field, MAX_NAME) ?? '?';
      if (field.id === 5) this.#attribute(field, depth);
    }
    const name = domain === '' || domain === 'ai.onnx' ? operator : `${domain}.${operator}`;
    const count = this.#operators.get(name);
    if (count === undefined && this.#operators.size === MAX_OPERATORS) {
      throw new WireError(`it uses more than ${MAX_OPERATORS} operators`);
    }
    this.#operators.set(name, (count ?? 0) + 1);
  }

  /** A graph 6, graphs 11. */
  #attribute(message: Field, depth: number): void {
    for (const field of this.#file.fields(message.start, message.end)) {
      if (field.wire === 2 && (field.id === 6 || field.id === 11)) this.graph(field, undefined, depth + 1);
    }
  }

  /** SparseTensorProto: its values (1) are a tensor, which has the name too. */
  #sparse(message: Field): string {
    let name = '';
    for (const field of this.#file.fields(message.start, message.end)) {
      if (field.wire === 2 && field.id === 1) name = this.#tensor(field);
    }
    return name;
  }

  /** dims 1 (packed or not), name 8, data_location 14 (1: external). */
  #tensor(message: Field): string {
    let [name, elements] = ['', 1];
    for (const field of this.#file.fields(message.start, message.end)) {
      if (field.id === 1 && field.wire === 0) elements *= field.value;
      if (field.id === 1 && field.wire === 2) {
        for (let at = field.start; at < field.end; ) {
          const dimension = this.#file.varint(at, field.end);
          elements *= dimension.value;
          at = dimension.next;
        }
      }
      if (field.id === 8 && field.wire === 2) name = this.#file.text(field, MAX_NAME) ?? '';
      if (field.id === 14 && field.wire === 0 && field.value === 1) this.#external++;
    }
    this.#parameters += elements;
    if (!Number.isSafeInteger(this.#parameters))
      throw new WireError('its tensors have more elements than can be counted');
    return name;
  }
}
