/** A model that is large enough to be opened on threads inside (src/enclave/unlock.ts), beside one that is not. */
import { randomBytes } from 'node:crypto';
import { cpSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { atomaTee, digits, ok, scratch, sealCommand } from './cli.ts';

const { dir, remove } = scratch();
const at = (...path: string[]) => join(dir, ...path);
const env = { XDG_CONFIG_HOME: at('config') };
const sealed = at('large.sealed');
const run = (via: string[] = []) =>
  atomaTee(
    [
      ...['run', at('digits/dist/build.intoto.json'), '--model', sealed, '--input', join(digits, 'inputs/03.json')],
      ...['--broker-key', at('broker.key'), '--allow-simulated', 'local', '--json'],
    ],
    { env, via },
  );
const label = JSON.parse(readFileSync(join(digits, 'labels.json'), 'utf8'))['03'];
const answer = (outcome: ReturnType<typeof run>) =>
  ok(outcome).json.outputs.find((output: { name: string }) => output.name === 'label').data[0];

beforeAll(() => {
  cpSync(digits, at('digits'), { recursive: true });
  writeFileSync(at('digits/model/ballast.bin'), randomBytes(70 << 20));
  ok(atomaTee(['build', at('digits')]));
  ok(atomaTee(['keygen', '--type', 'broker', '--out', at('broker.key')]));
  const manifest = at('digits/dist/build.intoto.json');
  const owner = at('digits/demo-owner.key');
  const broker = at('broker.key.pub');
  ok(atomaTee(sealCommand({ model: at('digits/model'), manifest, owner, broker, out: sealed }), { env }));
});
afterAll(remove);

test('opens on threads', () => {
  expect(answer(run())).toBe(label);
});

test('opens where there is one CPU', () => {
  expect(answer(run(['taskset', '-c', '0']))).toBe(label);
});

test('a flipped bit near its end is found by the threads, and nothing is answered', () => {
  const fd = openSync(sealed, 'r+');
  const place = statSync(sealed).size - (1 << 19);
  writeSync(fd, Buffer.of((readFileSync(sealed)[place] as number) ^ 1), 0, 1, place);
  const refused = run();
  expect(refused.code).toBe(3);
  expect(refused.json.error.code).toBe('ERR_SEAL_TAMPERED');
});
