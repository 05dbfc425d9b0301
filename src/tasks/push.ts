import { type PushOptions, type PushResult, pushSealed } from '../artifact/push.ts';

/** `atoma-tee push`: as pushSealed; `warnings` are for people. */
export async function push(options: PushOptions): Promise<PushResult & { warnings: string[] }> {
  const result = await pushSealed(options);
  const unsigned = result.manifest !== null && !result.manifest.signed;
  return {
    ...result,
    warnings: unsigned ? ['note: the build manifest is not signed (no build.sigstore.json beside it)'] : [],
  };
}
