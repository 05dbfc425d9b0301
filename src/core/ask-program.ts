import { execFile } from 'node:child_process';

/**
 * What a program answers on its stdout; null where it cannot be started, fails, answers more than 16 MiB, or takes longer than `timeout`
 * (milliseconds). Then it is killed, and not waited for: what it started itself can hold its pipes open for as long as it likes.
 */
export const askProgram = (
  program: string,
  args: string[],
  { input = '', ...options }: { env: NodeJS.ProcessEnv; timeout: number; cwd?: string; input?: string },
): Promise<string | null> =>
  new Promise((resolve) => {
    const limits = { maxBuffer: 16 << 20, killSignal: 'SIGKILL' } as const;
    const child = execFile(program, args, { ...options, ...limits }, (error, stdout) => resolve(error ? null : stdout));
    // It need not want to read.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
