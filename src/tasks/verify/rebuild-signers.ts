import { readSmallFile } from '../../core/files.ts';
import { parseSigstruct, type SgxSigner, verifySigstruct } from '../../gramine/index.ts';
import { signerOf } from '../../gramine/sigstruct.ts';
import { checkSignature, type EifSigner, streamEif } from '../../nitro/index.ts';

/**
 * Whoever rebuilds has no key. A signature is set aside by taking the one that is there: put beside the same image it gives
 * the same bytes, PCR8 comes from its certificate and MRSIGNER from its modulus. That it is valid is judged elsewhere.
 */

/** The image that was built is not the one that the signature is for. */
export class AnotherImage extends Error {}

/** The signature of an EIF as a signer; undefined where there is none, or one that does not hold. */
export async function replayedEifSigner(path: string): Promise<EifSigner | undefined> {
  const chunks: Buffer[] = [];
  const { signature, measurement } = await streamEif(path, {
    tolerant: true,
    fileDigests: [],
    onSection: ({ type }) =>
      type === 'signature' ? { write: (chunk) => void chunks.push(Buffer.from(chunk)), end() {} } : undefined,
  });
  if (signature === null || !checkSignature(signature, measurement.pcr0).valid) return undefined;
  return {
    certificate: signature.certificate,
    pcr8: signature.pcr8,
    section(pcr0) {
      if (pcr0 === measurement.pcr0) return Buffer.concat(chunks);
      throw new AnotherImage();
    },
  };
}

/** The signature of a SIGSTRUCT as a signer, for another enclave too (it does not hold there); undefined for one that holds nowhere. */
export async function replayedSgxSigner(path: string): Promise<SgxSigner | undefined> {
  const sigstruct = parseSigstruct(await readSmallFile(path, 'enclave signature'));
  if (!verifySigstruct(sigstruct).signature) return undefined;
  const { modulus, signature } = sigstruct;
  return { modulus, mrsigner: signerOf(modulus), sign: async () => Buffer.from(signature).reverse() };
}
