export { normalisePath } from './layout.ts';
export { type PfHeader, type PfVersion, parseHeader } from './metadata.ts';
export { openProtectedFile, type PfSource, type ProtectedFile } from './reader.ts';
export { protectedFilesSink } from './sink.ts';
export { readWrapKey } from './wrap-key.ts';
export { type PfTarget, type PfWriterOptions, ProtectedFileWriter } from './writer.ts';
