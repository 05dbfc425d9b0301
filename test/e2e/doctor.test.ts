import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Finding } from '../../src/doctor/finding.ts';
import { atomaTee, giveAway, isRoot, root, scratch } from './cli.ts';
import { haveTmux, Terminal } from './terminal.ts';

const { dir, remove } = scratch();
const at = (...path: string[]) => join(dir, ...path);
afterAll(remove);

const findings = (json: { sections: { findings: Finding[] }[] }) =>
  new Map(json.sections.flatMap((section) => section.findings).map((finding) => [finding.id, finding]));

describe('doctor', () => {
  test('this machine runs the tests, so it can do the main job', () => {
    const { code, json } = atomaTee(['doctor', '--json']);
    expect({ code, ready: json.ready }).toEqual({ code: 0, ready: true });
    const found = findings(json);
    for (const id of ['node', 'kernel', 'namespaces', 'cache', 'npm', 'debian']) {
      expect(found.get(id)).toMatchObject({ status: 'ok', required: true });
    }
    for (const finding of found.values()) {
      expect(['ok', 'missing', 'no']).toContain(finding.status);
      expect(finding.for).not.toBe('');
      if (finding.status === 'missing') expect(finding.mend ?? '', finding.id).not.toBe('');
    }
  });

  test('an ordinary user’s namespaces are tried for real, too', () => {
    mkdirSync(at('tmp'), { mode: 0o700 });
    giveAway(at('tmp'));
    const env = { TMPDIR: at('tmp'), XDG_CACHE_HOME: '', HOME: at('tmp') };
    const { json } = atomaTee(['doctor', '--json'], { ordinaryUser: true, env });
    expect(findings(json).get('namespaces')).toMatchObject({ status: 'ok' });
    expect(readdirSync(at('tmp')).filter((name) => name.startsWith('atoma'))).toEqual([]);
  });

  test('namespaces that are refused: exit 5, which one, and the mend', () => {
    // A user namespace that may hold no further ones.
    const via = [
      ...['unshare', '--user', '--map-root-user', '--mount', '--pid', '--fork', '--mount-proc'],
      ...['sh', '-c', 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', 'sh'],
    ];
    const { code, json } = atomaTee(['doctor', '--json'], { via });
    expect({ code, ready: json.ready }).toEqual({ code: 5, ready: false });
    expect(findings(json).get('namespaces')).toMatchObject({
      status: 'missing',
      mend: expect.stringContaining('max_user_namespaces'),
    });
  });

  test('no mirror, and nothing cached: exit 5; nothing is made, no secret is shown', () => {
    const env = { XDG_CACHE_HOME: at('cache'), ATOMA_TEE_DEBIAN_MIRROR: 'ftp://me:hunter2@mirror.example/x' };
    const human = atomaTee(['doctor'], { env });
    expect(human.code).toBe(5);
    expect(human.stdout).toMatch(/^NOT READY .*Debian mirror$/m);
    expect(human.stdout + human.stderr).not.toContain('hunter2');
    expect(existsSync(at('cache'))).toBe(false);
  });

  test.skipIf(!isRoot)('it leaves no trace in the checkout, the cache or the configuration (as root)', () => {
    const cache = join(process.env.XDG_CACHE_HOME || join(process.env.HOME ?? '/root', '.cache'), 'atoma-tee');
    const state = () => [cache, root].map((path) => (existsSync(path) ? statSync(path).mtimeMs : 0));
    const before = state();
    atomaTee(['doctor'], { env: { XDG_CONFIG_HOME: at('none') } });
    expect(state()).toEqual(before);
    expect(existsSync(at('none'))).toBe(false);
  });
});

describe.skipIf(!haveTmux)('at a real terminal (skipped without tmux)', () => {
  test.each([
    ['with colours', '', 80],
    ['--no-color', ' --no-color', 72],
  ] as const)('%s: a table that fits', async (_, flag, columns) => {
    const terminal = new Terminal({
      cwd: dir,
      env: { PATH: `${join(root, 'bin')}:${process.env.PATH}` },
      columns,
      rows: 150,
    });
    try {
      const { code, screen } = await terminal.run(`atoma-tee doctor${flag}`)();
      expect(code).toBe(0);
      // A line that is too long would go on at the start of the next one.
      const lines = screen.split('\n').filter((line) => line.trim() !== '');
      const table = lines.slice(
        0,
        lines.findIndex((line) => /^READY {2}/.test(line)),
      );
      expect(table.length).toBeGreaterThan(20);
      for (const line of table)
        expect(line).toMatch(/^( {2}(ok|missing|no) | {11}|The main job|Nitro images|Confidential)/);
      expect(terminal.colours().length > 0).toBe(flag === '');
    } finally {
      terminal.close();
    }
  });
});
