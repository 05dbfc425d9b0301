import * as z from 'zod';
import { usageError } from '../core/errors.ts';

/** What the metadata section says about a build. It is not measured: convenience, not evidence. */
export interface EifMetadata {
  imageName: string;
  imageVersion: string;
  /** Seconds since the epoch: SOURCE_DATE_EPOCH. */
  buildTime: number;
  buildTool: string;
  buildToolVersion: string;
  operatingSystem: string;
  kernelVersion: string;
  /** Free JSON; its keys are written in alphabetical order, as serde_json does. */
  dockerInfo?: unknown;
  customMetadata?: unknown;
}

/**
 * The metadata section as eif_build writes it (src/utils/identity.rs of aws-nitro-enclaves-image-format 0.5.0): compact
 * JSON, keys in this order. The same values give the same bytes.
 */
export function encodeMetadata(metadata: EifMetadata): Buffer {
  return Buffer.from(
    JSON.stringify({
      ImageName: metadata.imageName,
      ImageVersion: metadata.imageVersion,
      BuildMetadata: {
        BuildTime: rfc3339(metadata.buildTime),
        BuildTool: metadata.buildTool,
        BuildToolVersion: metadata.buildToolVersion,
        OperatingSystem: metadata.operatingSystem,
        KernelVersion: metadata.kernelVersion,
      },
      DockerInfo: sortKeys(metadata.dockerInfo ?? null),
      CustomMetadata: sortKeys(metadata.customMetadata ?? null),
    }),
  );
}

const schema = z.record(z.string(), z.unknown());

/** The section of any builder, as JSON. Throws `ERR_EIF_METADATA` (exit 2) for what is not a JSON object in UTF-8. */
export function parseMetadata(bytes: Uint8Array): Record<string, unknown> {
  try {
    return schema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (cause) {
    throw usageError('ERR_EIF_METADATA', 'expected the metadata section to be a JSON object', { cause });
  }
}

/** chrono's form: "+00:00" where Date writes ".000Z". */
function rfc3339(seconds: number): string {
  const date = new Date(seconds * 1000);
  if (!Number.isInteger(seconds) || Number.isNaN(date.getTime())) {
    throw usageError('ERR_EIF_METADATA', `expected a build time in whole seconds, found ${seconds}`);
  }
  return date.toISOString().replace(/\.000Z$/, '+00:00');
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  const sorted = Object.entries(value).sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return Object.fromEntries(sorted.map(([key, inner]) => [key, sortKeys(inner)]));
}
