export { DigestCache, digestAndRecord } from './digest-cache.ts';
export { type DigestOptions, digestFiles, digestModel } from './digest-files.ts';
export { listModel, type ModelFile, modelDigest } from './model.ts';
export { checkOnnx, findOnnx } from './onnx.ts';
