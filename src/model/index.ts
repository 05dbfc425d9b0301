export { digestModel, listModel, type ModelFile, modelDigest } from './model.ts';
export { checkOnnx, findOnnx } from './onnx.ts';
