export { inspectSealed, type VerifySealedOptions, verifySealed } from './inspect.ts';
export { type ByteSource, extract, fileSource, openIndex, readHeader } from './open.ts';
export {
  checkPolicy,
  decodePolicy,
  encodePolicy,
  type Policy,
  type PolicyMeasurement,
  policyFromJson,
} from './policy.ts';
export { type OpenSealed, readRange } from './range.ts';
export { type SealOptions, type SealResult, sealModel } from './seal.ts';
export { type UnsealOptions, type UnsealResult, type UnsealSink, unsealFile } from './unseal.ts';
