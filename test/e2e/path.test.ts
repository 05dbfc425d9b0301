/** From a model to a verified answer, on the real example, through the command line. */
import { spawn } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atomaTee, digits, giveAway, ok, root, scratch, sealCommand } from './cli.ts';

const { dir, remove } = scratch();
const at = (...path: string[]) => join(dir, ...path);
const manifest = at('dist/build.intoto.json');
const input = join(digits, 'inputs/03.json');
const label = JSON.parse(readFileSync(join(digits, 'labels.json'), 'utf8'))['03'];
const env = { XDG_CONFIG_HOME: at('config') };
const answerOf = (path: string) =>
  JSON.parse(readFileSync(path, 'utf8')).outputs.find((output: { name: string }) => output.name === 'label').data[0];

const runArgs = (name: string) => [
  'run',
  manifest,
  '--model',
  at('digits.sealed'),
  '--input',
  input,
  '--allow-simulated',
  'local',
  '--json',
  '--receipt',
  at(`${name}.receipt`),
  '--evidence',
  at(`${name}.evidence`),
  '--response',
  at(`${name}.response`),
];
const verifyAnswer = (name: string, ...more: string[]) =>
  atomaTee(
    [
      'verify',
      at(`${name}.receipt`),
      '--evidence',
      at(`${name}.evidence`),
      '--manifest',
      manifest,
      '--request',
      input,
      '--response',
      at(`${name}.response`),
      '--json',
      ...more,
    ],
    { env },
  );

let built: any;
beforeAll(() => {
  built = ok(atomaTee(['build', digits, '--out', at('dist'), '--json'])).json;
  for (const type of ['broker', 'recovery']) ok(atomaTee(['keygen', '--type', type, '--out', at(`${type}.key`)]));
  ok(
    atomaTee(
      sealCommand({
        model: join(digits, 'model'),
        manifest,
        owner: join(digits, 'demo-owner.key'),
        broker: at('broker.key.pub'),
        recovery: at('recovery.key.pub'),
        out: at('digits.sealed'),
      }),
      { env },
    ),
  );
});
afterAll(remove);

describe('build', () => {
  test('says what it made, in the shape of the contract', () => {
    expect(built.name).toBe('digits');
    const [image] = built.images;
    expect(image.target).toBe('nitro');
    expect(statSync(image.path).size).toBe(image.size);
    expect(image.measurement.tee).toBe('nitro');
    for (const pcr of ['pcr0', 'pcr1', 'pcr2']) expect(image.measurement[pcr]).toMatch(/^[0-9a-f]{96}$/);
  });

  test('inspect of the image agrees with build', () => {
    const found = ok(atomaTee(['inspect', built.images[0].path, '--json'])).json;
    expect(found.kind).toBe('eif');
    expect(found.version).toBe(4);
    expect(found.crc.ok).toBe(true);
    expect(found.measurement).toEqual(built.images[0].measurement);
  });
});

describe('run and verify', () => {
  test('an answer, with its proof, from a broker in this process', () => {
    const result = ok(atomaTee([...runArgs('inproc'), '--broker-key', at('broker.key')], { env })).json;
    expect(result.simulated).toBe(true);
    expect(result.measurement.of).toEqual(built.images[0].measurement);
    expect(answerOf(at('inproc.response'))).toBe(label);
    const report = ok(verifyAnswer('inproc', '--allow-simulated', 'local')).json;
    expect(report).toMatchObject({ verdict: 'pass', simulated: true });
  });

  test('an answer through a broker over HTTP', async () => {
    const broker = spawn(
      join(root, 'bin/atoma-tee'),
      ['broker', 'serve', '--key', at('broker.key'), '--listen', '127.0.0.1:0', '--allow-simulated', 'local', '--json'],
      { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] },
    );
    try {
      let text = '';
      for await (const line of createInterface({ input: broker.stdout })) {
        text += line;
        if (line === '}') break;
      }
      const { url } = JSON.parse(text);
      const child = spawn(join(root, 'bin/atoma-tee'), [...runArgs('http'), '--broker', url], {
        env: { ...process.env, ...env },
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      expect(await new Promise((resolve) => child.on('exit', resolve))).toBe(0);
      expect(answerOf(at('http.response'))).toBe(label);
      expect(verifyAnswer('http', '--allow-simulated', 'local').code).toBe(0);
    } finally {
      broker.kill('SIGTERM');
      await new Promise((resolve) => broker.on('exit', resolve));
    }
  });

  test('as an ordinary user: seal, run, verify', () => {
    const mine = scratch();
    try {
      const own = (...path: string[]) => join(mine.dir, ...path);
      cpSync(at('dist'), own('dist'), { recursive: true });
      cpSync(digits, own('digits'), { recursive: true });
      giveAway(mine.dir);
      const user = { env: { HOME: mine.dir, XDG_CONFIG_HOME: own('config') }, cwd: mine.dir, ordinaryUser: true };
      const [sealedTo, theirs] = [own('own.sealed'), own('dist/build.intoto.json')];
      ok(atomaTee(['keygen', '--type', 'broker', '--out', own('broker.key')], user));
      ok(
        atomaTee(
          sealCommand({
            model: own('digits/model'),
            manifest: theirs,
            owner: own('digits/demo-owner.key'),
            broker: own('broker.key.pub'),
            out: sealedTo,
          }),
          user,
        ),
      );
      ok(
        atomaTee(
          [
            'run',
            theirs,
            '--model',
            sealedTo,
            '--input',
            own('digits/inputs/03.json'),
            '--broker-key',
            own('broker.key'),
            '--allow-simulated',
            'local',
            '--receipt',
            own('receipt'),
            '--evidence',
            own('evidence'),
            '--response',
            own('response'),
          ],
          user,
        ),
      );
      expect(answerOf(own('response'))).toBe(label);
      ok(
        atomaTee(
          [
            'verify',
            own('receipt'),
            '--evidence',
            own('evidence'),
            '--manifest',
            theirs,
            '--response',
            own('response'),
            '--allow-simulated',
            'local',
          ],
          user,
        ),
      );
    } finally {
      mine.remove();
    }
  });

  test('every artifact verifies against the manifest', () => {
    const files = [manifest, built.images[0].path, at('digits.sealed')];
    const report = ok(
      atomaTee(['verify', ...files, '--manifest', manifest, '--allow-simulated', 'local', '--json'], { env }),
    ).json;
    expect(report.results.map((r: { kind: string }) => r.kind)).toEqual(['build-manifest', 'eif', 'sealed-model']);
    expect(report.verdict).toBe('pass');
  });

  test('the recovery key gives the model back, byte for byte', () => {
    ok(atomaTee(['unseal', at('digits.sealed'), '--key', at('recovery.key'), '--out', at('opened')]));
    for (const name of readdirSync(join(digits, 'model'))) {
      expect(readFileSync(at('opened', name))).toEqual(readFileSync(join(digits, 'model', name)));
    }
    expect(existsSync(at('opened.partial'))).toBe(false);
  });
});
