import { hex } from '../core/bytes.ts';
import type { ParsedHeader } from '../seal/header.ts';
import { fileSource, readHeader } from '../seal/open.ts';
import { chunksOf } from './chunks.ts';
import { regionsOf } from './sealed-file.ts';

/** Another version of a sealed model, for the parts that both have. */
export interface Reusable {
  /** The bytes (as chunksOf) of layer `i` of that model, where this one seems to have them: the id and the length are the same. */
  find(parsed: ParsedHeader, i: number): (() => AsyncGenerator<Uint8Array>) | null;
  close(): Promise<void>;
}

/** Throws as fileSource and readHeader. Null without a path. */
export async function reusable(path: string | undefined): Promise<Reusable | null> {
  if (path === undefined) return null;
  const source = await fileSource(path);
  try {
    const old = await readHeader(source);
    const regions = new Map(regionsOf(old).map((region, i) => [nameOf(old, i), region]));
    return {
      find(parsed, i) {
        const region = regions.get(nameOf(parsed, i));
        if (region === undefined) return null;
        return () => chunksOf(source.fd, region.offset, region.length);
      },
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** What says that two layers may be the same; their digest says whether they are. */
function nameOf({ header }: ParsedHeader, i: number): string {
  const part = header.parts[i - 1];
  return part === undefined ? hex(header.index.sha256) : `${hex(part.id)} ${part.length}`;
}
