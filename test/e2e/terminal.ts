import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export const haveTmux = spawnSync('tmux', ['-V']).status === 0;

/** Of a wait, which ends earlier on every machine that is not stuck. */
const LIMIT_MS = 120_000;

/** A real terminal: a tmux of its own, with a shell in it. */
export class Terminal {
  readonly #dir = mkdtempSync(join(tmpdir(), 'atoma-tmux-'));
  #marks = 0;

  /** `env` is the shell's, beside TERM. */
  constructor({
    cwd,
    env,
    columns = 80,
    rows = 60,
  }: { cwd: string; env: Record<string, string>; columns?: number; rows?: number }) {
    const size = ['-x', String(columns), '-y', String(rows)];
    const given = Object.entries({ PS1: '$ ', ...env }).map(([name, value]) => `${name}=${value}`);
    this.#tmux(
      '-f',
      '/dev/null',
      'new-session',
      '-d',
      '-s',
      'it',
      ...size,
      '-c',
      cwd,
      'env',
      '-u',
      'NO_COLOR',
      ...given,
      'sh',
    );
  }

  /** What is on the screen; `escapes` with the colours. */
  screen(escapes = false): string {
    return this.#tmux('capture-pane', '-p', ...(escapes ? ['-e'] : []), '-t', 'it');
  }

  /** The colours and other attributes that are on the screen; what only ends them is not counted. */
  colours(): string[] {
    return this.screen(true)
      .split('\u001b[')
      .slice(1)
      .filter((text) => !/^0?m/.test(text));
  }

  /** Keys as tmux names them: "Enter", "C-c", "Up". */
  keys(...keys: string[]): void {
    this.#tmux('send-keys', '-t', 'it', ...keys);
  }

  type(text: string): void {
    this.#tmux('send-keys', '-t', 'it', '-l', text);
  }

  /** Waits until the screen shows it; throws with the screen where that does not happen. */
  async shows(pattern: RegExp | string): Promise<string> {
    for (const deadline = performance.now() + LIMIT_MS; performance.now() < deadline; await sleep(50)) {
      const screen = this.screen();
      if (typeof pattern === 'string' ? screen.includes(pattern) : pattern.test(screen)) return screen;
    }
    throw new Error(`the terminal did not show ${pattern}:\n${this.screen()}`);
  }

  /** Types a command; the returned function waits for its end and gives its exit code and what is on the screen then. */
  run(command: string): () => Promise<{ code: number; screen: string }> {
    const mark = `ended${++this.#marks}`;
    this.type(`clear; ${command}; echo ${mark}=$?`);
    this.keys('Enter');
    return async () => {
      const screen = await this.shows(new RegExp(`^${mark}=\\d+`, 'm'));
      return { code: Number(new RegExp(`^${mark}=(\\d+)`, 'm').exec(screen)?.[1]), screen };
    };
  }

  close(): void {
    this.#tmux('kill-server');
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #tmux(...args: string[]): string {
    // A socket of our own: no other tmux of this user is seen or ended.
    const child = spawnSync('tmux', ['-S', join(this.#dir, 'socket'), ...args], { encoding: 'utf8' });
    return child.stdout ?? '';
  }
}
