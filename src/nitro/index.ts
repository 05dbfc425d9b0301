export type { EifArch, EifLayout, EifSection, EifSectionType } from './layout.ts';
export { parseEif } from './layout.ts';
export { type EifMetadata, encodeMetadata, parseMetadata } from './metadata.ts';
export { type PackOptions, packEif } from './pack.ts';
export type { EifSignature } from './signature.ts';
export { bytesSource, type EifSource, fileSource } from './source.ts';
export { type MeasuredEif, measureEif, type RamdiskSink, requireCrc, type StreamOptions, streamEif } from './stream.ts';
export { bytesPart, type EifPart, filePart, type WriteEifOptions, type WrittenEif, writeEif } from './write.ts';
