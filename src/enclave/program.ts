import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AtomaError, EXIT } from '../core/errors.ts';
import { MEASURED_CONFIG_PATH, MODEL_DIRECTORY } from '../core/layout.ts';
import { parseMeasuredConfig } from '../core/measured-config.ts';
import { findAttester } from './attester.ts';
import { type Channel, openChannel } from './channel.ts';
import { connectHost } from './connect-host.ts';
import { createIdentity } from './identity.ts';
import { createInferenceServer } from './inference-server.ts';
import { createReceiptSigner } from './receipts.ts';
import { unlockModel } from './unlock.ts';

const LIMITS = { maxBody: 16 << 20, maxBuffered: 64 << 20, timeoutMs: 30_000 };

/**
 * The program of every image: reads its measured configuration, makes its keys and evidence, has its model's key
 * released, opens the model, and answers requests until its host hangs up. `root` is the image's root, for tests.
 *
 * What fails before serving is told to the host and thrown.
 */
export async function runEnclave(root = '/'): Promise<void> {
  const config = parseMeasuredConfig(readFileSync(join(root, MEASURED_CONFIG_PATH)));
  const channel = openChannel(await connectHost(root));
  const timings: Record<string, number> = {};
  let since = performance.now();
  const lap = (step: string) => {
    timings[step] = performance.now() - since;
    since = performance.now();
  };
  try {
    const attester = findAttester(channel, root);
    const identity = await createIdentity(attester);
    const model = await unlockModel({ channel, attester, config }, join(root, MODEL_DIRECTORY), lap);
    const handler = createInferenceServer({
      config,
      model,
      sign: createReceiptSigner(config, identity, attester.securityMode),
      evidenceFile: identity.evidenceFile,
    });
    await channel.status({ state: 'ready', timings });
    await channel.serve(handler, LIMITS);
  } catch (error) {
    await reportFailure(channel, error);
    throw error;
  }
}

/** Our own errors hold no secrets; of any other error, nothing is told. */
async function reportFailure(channel: Channel, error: unknown): Promise<void> {
  const known =
    error instanceof AtomaError ? error : new AtomaError('unexpected', 'ERR_ENCLAVE_FAILED', 'internal error');
  const exit = Object.entries(EXIT).find(([, code]) => code === known.exitCode)?.[0];
  try {
    await channel.status({ state: 'failed', error: { exit, ...known.toJSON() } });
  } catch {
    // The host is gone, and with it whoever could hear.
  }
  channel.close();
}
