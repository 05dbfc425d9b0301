import { readGguf } from '../../src/model/gguf.ts';
import { readSafetensors, type WeightsFacts } from '../../src/model/safetensors.ts';
import { gguf, twoTensors } from '../../test/unit/init/weights.ts';
import { must, type Target } from './target.ts';

const sane = (facts: WeightsFacts | null): boolean => {
  if (facts !== null) must(facts.tensors >= 0 && facts.parameters >= 0, 'counts are numbers');
  return true;
};

/** What `init` reads of weights. */
export const weightsTargets: Target[] = [
  {
    name: 'safetensors',
    genuine: false,
    share: 1,
    seeds: async () => [
      { name: 'two tensors', bytes: twoTensors(), accepts: (input) => sane(readSafetensors(input, input.length)) },
    ],
  },
  {
    name: 'gguf',
    genuine: false,
    share: 1,
    seeds: async () => [
      { name: 'two tensors', bytes: gguf(), accepts: (input) => sane(readGguf(input, input.length)) },
    ],
  },
];
