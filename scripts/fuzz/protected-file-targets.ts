import { openProtectedFile, type ProtectedFile } from '../../src/gramine/pf/index.ts';
import { NODE } from '../../src/gramine/pf/layout.ts';
import { pattern, protect, source, wrapKey } from '../../test/unit/gramine/pf-fixture.ts';
import { must, type Seed, type Target } from './target.ts';

async function drain(file: ProtectedFile): Promise<boolean> {
  let length = 0;
  for await (const chunk of file.chunks()) length += chunk.length;
  must(length === file.size, 'a protected file has as much data as it says');
  return true;
}
const accepts = async (input: Buffer) => drain(await openProtectedFile(source(input), wrapKey));

const fileSeeds = (): Promise<Seed[]> =>
  Promise.all(
    ([1, 2] as const).flatMap((version) =>
      [100, 3072 + 98 * NODE].map(async (size) => ({
        name: `version ${version}, ${size} bytes`,
        bytes: await protect(pattern(size), version),
        accepts,
      })),
    ),
  );

export const protectedFileTargets: Target[] = [{ name: 'gramine-pf', genuine: true, share: 0.2, seeds: fileSeeds }];
