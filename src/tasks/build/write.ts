import type { SgxSigner } from '../../gramine/index.ts';
import { mending } from '../../image/inputs.ts';
import type { EifSigner } from '../../nitro/index.ts';
import { bomSources } from './bom.ts';
import { type ImageContent, type ImageInputs, imageContent, type Target } from './content.ts';
import { type BuiltImages, writeDocuments } from './documents.ts';
import { gramineLibraries, writeGramine } from './gramine.ts';
import { writeNitro } from './nitro.ts';

/** Who signs the images of a build. An SGX enclave needs a signer, a Nitro image can do without. */
export interface Signers {
  nitro?: EifSigner | undefined;
  gramine?: SgxSigner | undefined;
}

/** Everything that a build writes, into `dir`. The same inputs and signatures give the same bytes. */
export async function writeImages(
  dir: string,
  inputs: ImageInputs,
  targets: Target[],
  signers: Signers,
  lockDigest: string,
): Promise<{ images: BuiltImages; content: ImageContent; documents: string[] }> {
  const { gramine } = signers;
  const libraries = gramine && (await gramineLibraries(inputs));
  const { images, content, sources } = await mending(inputs.cache, async () => {
    const content = await imageContent(inputs);
    const sources = await bomSources(inputs, content);
    const images: BuiltImages = {
      nitro: targets.includes('nitro') ? await writeNitro(dir, inputs, content, signers.nitro) : undefined,
      gramine: gramine && libraries && (await writeGramine(dir, inputs, content, libraries, gramine)),
    };
    return { images, content, sources };
  });
  const documents = await writeDocuments(dir, inputs, images, sources, lockDigest);
  return { images, content, documents };
}
