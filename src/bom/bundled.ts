import { join } from 'node:path';
import * as z from 'zod';
import { readSmallFile } from '../core/files.ts';
import { TOOLKIT_DIR } from '../image/toolkit.ts';
import type { BundledPackage } from './facts.ts';

/** Written when the toolkit is packed (scripts/build.ts), from esbuild's own account of what it bundled. */
const RECORD = join(TOOLKIT_DIR, 'dist', 'enclave', 'program.packages.json');

const schema = z.strictObject({
  /** SHA-256 (hex) of the program that it is about. */
  program: z.string(),
  packages: z.array(z.strictObject({ name: z.string(), version: z.string(), license: z.string() })),
});

/** The npm packages inside the enclave program with this digest; none for another program than this toolkit's own. */
export async function bundledPackages(program: string): Promise<BundledPackage[]> {
  const bytes = await readSmallFile(RECORD, 'list of bundled packages').catch(() => null);
  if (bytes === null) return [];
  const record = schema.safeParse(JSON.parse(bytes.toString('utf8')));
  return record.success && record.data.program === program ? record.data.packages : [];
}
