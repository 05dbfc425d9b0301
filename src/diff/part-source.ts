import { type ArchiveIndex, indexArchive } from './archive.ts';
import { type Compression, compressionOf, decompress } from './decompress.ts';
import type { Node } from './nodes.ts';
import type { View } from './view.ts';

/** A measured part of one side. */
export interface PartSource {
  name: string;
  size: number;
  /** Hex; null where it is not known. */
  digest: string | null;
  /** Its bytes, where they are there. */
  view?: View;
  /** What it holds, where only that is known. */
  nodes?: Node[];
}

/** A ramdisk taken apart. */
export interface OpenedPart {
  compression: Compression | null;
  /** Its bytes, unpacked. */
  view?: View;
  index?: ArchiveIndex;
  problems: string[];
  close(): void;
}

/** Unpacks what is compressed and lists what is in it. What cannot be read is a problem that is told, not an error. */
export async function openArchive(part: PartSource): Promise<OpenedPart> {
  const nothing = { compression: null, problems: [], close: () => {} };
  if (part.view === undefined) {
    return part.nodes ? { ...nothing, index: { nodes: part.nodes, read: part.size } } : nothing;
  }
  const compression = compressionOf(part.view);
  if (compression === null) return listed({ ...nothing, view: part.view });
  const unpacked = await decompress(part.view, compression);
  if ('problem' in unpacked) return { ...nothing, compression, problems: [unpacked.problem] };
  const problems = unpacked.behind === undefined ? [] : [unpacked.behind];
  return listed({ compression, view: unpacked.view, problems, close: () => unpacked.view.close() });
}

function listed(part: Omit<OpenedPart, 'index'> & { view: View }): OpenedPart {
  const index = indexArchive(part.view);
  return { ...part, index, problems: index.problem === undefined ? part.problems : [...part.problems, index.problem] };
}
