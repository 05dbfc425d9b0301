import type { OnProgress } from '../core/progress.ts';
import type { NitroImage } from '../manifest/measurements.ts';
import { type MeasuredEif, measureEif } from '../nitro/index.ts';
import { measuredNodes } from './nodes.ts';
import type { PartSource } from './part-source.ts';
import type { Registers } from './sides.ts';
import { type OpenView, openView, slice } from './view.ts';

/** A Nitro image, or what is known of one. */
export interface NitroSide {
  registers: Registers;
  /** Sections by name, in the order of the image; undefined where only registers are known. */
  parts?: Map<string, PartSource>;
  /** Where the image's bytes are there. */
  measured?: MeasuredEif;
  /** Says so itself: "DEBUG_MODE" of nitro-cli. */
  debug?: boolean;
  close?(): void;
}

/** Measures an image and opens it for reading here and there. Throws what `streamEif` throws. */
export async function openNitro(path: string, onProgress?: OnProgress): Promise<NitroSide> {
  const view = openView(path);
  try {
    return nitroSide(view, await measureEif(path, onProgress));
  } catch (error) {
    view.close();
    throw error;
  }
}

function nitroSide(view: OpenView, measured: MeasuredEif): NitroSide {
  const { tee: _, ...registers } = measured.measurement;
  const parts = new Map<string, PartSource>();
  let ramdisks = 0;
  for (const { type, offset, size, sha384 } of measured.sections) {
    const name = type === 'ramdisk' ? `ramdisk${ramdisks++}` : type;
    parts.set(name, { name, size, digest: sha384, view: slice(view, offset, size) });
  }
  return { registers, parts, measured, close: () => view.close() };
}

/** What measurements.json tells of an image: no bytes, but the digest of every file. */
export function listedNitro({ measurement, parts }: NitroImage): NitroSide {
  const { tee: _, ...registers } = measurement;
  return {
    registers,
    parts: new Map(
      parts.map(({ name, size, sha384, files }) => [
        name,
        { name, size, digest: sha384, ...(files ? { nodes: measuredNodes(files) } : {}) },
      ]),
    ),
  };
}
