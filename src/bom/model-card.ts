import * as Enums from '@cyclonedx/cyclonedx-library/Enums';
import { printable } from '../core/printable.ts';
import type { OnnxDescription, OnnxValue } from '../model/onnx-describe.ts';
import { type BomFacts, PROPERTY } from './facts.ts';
import { type Component, component } from './parts.ts';

const { ComponentType: TYPE } = Enums;

/**
 * The model by its digest alone, unless it is disclosed: file names, shapes and operators tell its architecture, and digests of single
 * files which published one it was made from.
 */
export function modelComponent({ digest, disclosed }: BomFacts['model']): Component {
  return component(TYPE.MachineLearningModel, 'model', {
    ref: 'model',
    hash: ['sha256', digest],
    description:
      'not in the image: unlocked into the enclave. The hash is the model digest: SHA-256 over the list of its files and their digests (docs/seal.md)',
    components: (disclosed?.files ?? []).map(({ path, size, sha256 }) =>
      component(TYPE.File, path, {
        ref: `model/${path}`,
        hash: ['sha256', sha256],
        properties: [['size', String(size)]],
      }),
    ),
  });
}

const format = ({ name, type, shape }: OnnxValue): string =>
  `${name}: ${type}${shape === null ? '' : `[${shape.join(', ')}]`}`;

/** modelCard of CycloneDX 1.6, from what the ONNX file says of itself. */
export function modelCard(onnx: OnnxDescription) {
  const values = (list: OnnxValue[]) => list.map((value) => ({ format: printable(format(value)) }));
  const property = (name: string, value: string) => ({ name: PROPERTY + name, value: printable(value) });
  return {
    modelParameters: { inputs: values(onnx.inputs), outputs: values(onnx.outputs) },
    properties: [
      property('onnx-ir-version', String(onnx.irVersion)),
      ...onnx.opsets.map(({ domain, version }) => property('onnx-opset', `${domain} ${version}`)),
      ...(onnx.producer === '' ? [] : [property('onnx-producer', `${onnx.producer} ${onnx.producerVersion}`.trim())]),
      ...onnx.operators.map(({ name, count }) => property('onnx-operator', `${name} ${count}`)),
      property('parameters', String(onnx.parameters)),
      ...(onnx.externalTensors === 0 ? [] : [property('external-tensors', String(onnx.externalTensors))]),
    ],
  };
}
