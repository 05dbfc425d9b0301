import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { AtomaError, EXIT } from '../core/errors.ts';
import { MEASURED_CONFIG_PATH, MODEL_DIRECTORY } from '../core/layout.ts';
import { type CommandRuntime, parseMeasuredConfig } from '../core/measured-config.ts';
import { findOnnx } from '../model/onnx.ts';
import { findAttester } from './attester.ts';
import { type Channel, openChannel } from './channel.ts';
import { runCommand } from './command.ts';
import { createCommandServer } from './command-server.ts';
import { connectHost } from './connect-host.ts';
import type { Handler, Limits } from './http2.ts';
import { createIdentity } from './identity.ts';
import { createInferenceServer } from './inference-server.ts';
import { say } from './log.ts';
import { loadOnnxModel } from './onnx-model.ts';
import { type Answered, createReceiptSigner } from './receipts.ts';
import { unlockModel } from './unlock.ts';

const LIMITS = { maxBody: 16 << 20, maxBuffered: 64 << 20, timeoutMs: 30_000 };
/** A program may think longer than a session of onnxruntime's does. */
const COMMAND_LIMITS = { ...LIMITS, timeoutMs: 120_000 };

/**
 * The program of every image: reads its measured configuration, makes its keys and evidence, has its model's key
 * released, opens the model, and answers requests until its host hangs up, or its command ends. Returns the status to end
 * with. `root` is the image's root, for tests; `starter` becomes a command (command-start.ts); `worker` is the module of its threads, where they are bundled.
 *
 * What fails before serving is told to the host and thrown.
 */
export async function runEnclave(root = '/', starter: string[] = [], worker?: URL): Promise<number> {
  const config = parseMeasuredConfig(readFileSync(join(root, MEASURED_CONFIG_PATH)));
  const channel = openChannel(await connectHost(root));
  const timings: Record<string, number> = {};
  let since = performance.now();
  const lap = (step: string) => {
    timings[step] = performance.now() - since;
    since = performance.now();
  };
  const directory = join(root, MODEL_DIRECTORY);
  const { runtime } = config;
  try {
    const attester = findAttester(channel, root);
    const identity = await createIdentity(attester);
    const files = await unlockModel({ channel, attester, config }, { root, directory, worker }, lap);
    const sign = createReceiptSigner(config, identity, attester.securityMode);
    const { evidenceFile } = identity;
    const ready = () => channel.status({ state: 'ready', timings });
    if (runtime.kind === 'command') {
      return await serveCommand({ runtime, channel, starter, sign, evidenceFile, lap, ready });
    }
    const model = await loadOnnxModel(join(directory, findOnnx(files)));
    rmSync(directory, { recursive: true });
    lap('session');
    await ready();
    await serve(channel, createInferenceServer({ config, model, sign, evidenceFile }), LIMITS);
    return 0;
  } catch (error) {
    await reportFailure(channel, error);
    throw error;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const HOST_GONE = 'host gone' as const;
const STOPPED = 'stopped' as const;

/** A host that is gone, politely or not, is how serving ends. */
const serve = (channel: Channel, handler: Handler, limits: Limits): Promise<typeof HOST_GONE> =>
  channel.serve(handler, limits).then(
    () => HOST_GONE,
    () => HOST_GONE,
  );

interface CommandParts {
  runtime: CommandRuntime;
  channel: Channel;
  starter: string[];
  sign: (answered: Answered) => Uint8Array;
  evidenceFile: (nonce?: Uint8Array) => Promise<Buffer>;
  lap: (step: string) => void;
  ready: () => Promise<void>;
}

/** The model stays where it is, for the command. */
async function serveCommand({
  runtime,
  channel,
  starter,
  sign,
  evidenceFile,
  lap,
  ready,
}: CommandParts): Promise<number> {
  const command = await runCommand(runtime, starter);
  lap('command ready');
  const stopped = Promise.withResolvers<void>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopped.resolve());
  await ready();
  const served = serve(channel, createCommandServer({ port: runtime.port, sign, evidenceFile }), COMMAND_LIMITS);
  const stop = Promise.race([served, stopped.promise.then(() => STOPPED)]);
  const ended = await Promise.race([command.ended, stop]);
  if (ended === HOST_GONE || ended === STOPPED) {
    const { status, how } = await command.stop();
    say(`the command was stopped and ended with ${how}`);
    return ended === HOST_GONE ? 0 : status;
  }
  say(`the command ended with ${ended.how}`);
  await reportFailure(
    channel,
    new AtomaError('unexpected', 'ERR_ENCLAVE_COMMAND', `the command ended with ${ended.how}`),
  );
  return ended.status;
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
