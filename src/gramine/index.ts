/** What other modules use of Gramine: manifests, measurements, signatures. */
export { encodeManifest, type FinishOptions, finishManifest, type ManifestTable, parseManifest } from './manifest.ts';
export { type EnclaveArea, type MeasureOptions, measureEnclave } from './measure.ts';
export { type SgxSettings, sgxSettings } from './settings.ts';
export { type SignManifestOptions, signingDate, signManifest } from './sign.ts';
export { readSgxSigner, type SgxSigner, type SgxSignerSource } from './signer.ts';
export {
  ATTRIBUTE,
  isSigstruct,
  parseSigstruct,
  SIGSTRUCT_SIZE,
  type Sigstruct,
  signerOf,
  verifySigstruct,
} from './sigstruct.ts';
export { enclaveAttributes } from './sigstruct-write.ts';
