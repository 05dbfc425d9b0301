import { spawn } from 'node:child_process';
import * as z from 'zod';
import { missingError } from '../core/errors.ts';
import { shown } from './json.ts';

/** As a credential helper gives it; for a token the user name is "<token>". Secret. */
export interface HelperAnswer {
  username: string;
  secret: string;
}

const MAX_OUTPUT = 64 * 1024;
const LIMIT_MS = 30_000;
/** It becomes part of a program's name: nothing that could be a path or an option. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** What helpers print where they know nothing of a server: github.com/docker/docker-credential-helpers, "credentials". */
const NOT_FOUND = /credentials not found/i;

const answer = z.object({ Username: z.string(), Secret: z.string() });

/**
 * Asks `docker-credential-NAME get` for a server's credentials: the server's name goes to its standard input, JSON comes
 * back. Null where it has none. Its output never becomes part of an error. Throws `ERR_OCI_CREDENTIALS` (exit 5).
 */
export async function askHelper(
  name: string,
  server: string,
  env: NodeJS.ProcessEnv,
  limitMs = LIMIT_MS,
): Promise<HelperAnswer | null> {
  if (!NAME.test(name)) throw failed(name, 'its name is none that a helper can have');
  const { status, output } = await run(`docker-credential-${name}`, server, env, limitMs, (why) => failed(name, why));
  const text = output.toString('utf8');
  if (status !== 0) {
    if (NOT_FOUND.test(text)) return null;
    throw failed(name, `it ended with status ${status}`);
  }
  try {
    const { Username, Secret } = answer.parse(JSON.parse(text));
    return { username: Username, secret: Secret };
  } catch {
    throw failed(name, 'it did not answer with a user name and a secret');
  }
}

function run(
  program: string,
  input: string,
  env: NodeJS.ProcessEnv,
  limitMs: number,
  fail: (why: string) => Error,
): Promise<{ status: number | null; output: Buffer }> {
  return new Promise((resolve, reject) => {
    // A group of its own, so that whatever the helper starts ends with it.
    const child = spawn(program, ['get'], { env, stdio: ['pipe', 'pipe', 'ignore'], detached: true, shell: false });
    const chunks: Buffer[] = [];
    let size = 0;
    const give = (error: Error) => {
      clearTimeout(timer);
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
      child.stdout.destroy();
      reject(error);
    };
    const timer = setTimeout(() => give(fail(`it did not answer in ${limitMs / 1000} seconds`)), limitMs);
    child.on('error', (error) => give(fail(`${program} cannot be started (${(error as NodeJS.ErrnoException).code})`)));
    child.stdout.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MAX_OUTPUT) give(fail(`it printed more than ${MAX_OUTPUT} bytes`));
      else chunks.push(chunk);
    });
    // A helper may end without reading.
    child.stdin.on('error', () => {});
    child.stdin.end(`${input}\n`);
    child.on('close', (status) => {
      clearTimeout(timer);
      resolve({ status, output: Buffer.concat(chunks) });
    });
  });
}

const failed = (name: string, why: string) =>
  missingError('ERR_OCI_CREDENTIALS', `the credential helper "${shown(name)}" is of no use: ${why}`, {
    hint: "Docker's or containers' configuration names it (credHelpers, credsStore): correct that, or log in again",
  });
