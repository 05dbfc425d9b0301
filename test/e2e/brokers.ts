import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { root } from './cli.ts';

/** A real `broker serve` on loopback, in a process of its own. */
export interface BrokerProcess {
  url: string;
  keyId: string;
  child: ChildProcess;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

const running = new Set<BrokerProcess>();

/** Starts a broker; resolves when it listens. `args` come after `--listen`. */
export async function startBroker(
  key: string,
  env: Record<string, string>,
  args: string[] = [],
): Promise<BrokerProcess> {
  const child = spawn(
    join(root, 'bin/atoma-tee'),
    ['broker', 'serve', '--key', key, '--listen', '127.0.0.1:0', '--json', '--allow-simulated', 'local', ...args],
    { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'ignore'] },
  );
  const exited = once(child, 'exit');
  let text = '';
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    text += line;
    if (line === '}') break;
  }
  const { url, keyId, error } = JSON.parse(text);
  if (error) throw new Error(`the broker does not start: ${error.code}: ${error.message}`);
  const broker: BrokerProcess = {
    url,
    keyId,
    child,
    async stop(signal = 'SIGTERM') {
      running.delete(broker);
      child.kill(signal);
      child.kill('SIGCONT');
      await exited;
    },
  };
  running.add(broker);
  return broker;
}

/** Ends what a failed test left running. */
export const stopBrokers = async (): Promise<void> => {
  await Promise.all([...running].map((broker) => broker.stop('SIGKILL')));
};

/** As atomaTee, without stopping this process meanwhile: for servers that run in it. */
export async function atomaTeeAsync(args: string[], env: Record<string, string>) {
  const child = spawn(join(root, 'bin/atoma-tee'), args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (data) => {
    output.stdout += data;
  });
  child.stderr.on('data', (data) => {
    output.stderr += data;
  });
  const [code] = await once(child, 'close');
  return {
    code: code as number | null,
    ...output,
    get json() {
      return JSON.parse(output.stdout);
    },
  };
}
