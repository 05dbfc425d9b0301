/**
 * `npm run quickstart`: the main job on the real example, through the same command line that users have.
 * Build, seal, run, verify; then one flipped byte in the model and one in the image, and both are refused.
 */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import ansis from 'ansis';
import { drawDigit } from '../src/cli/draw-digit.ts';

const root = join(import.meta.dirname, '..');
const work = join(root, '.quickstart');
const project = join(work, 'digits');
const dist = join(project, 'dist');
const show = (path: string) => relative(root, path);
const started = performance.now();
const timings: [string, number][] = [];

process.chdir(root);
rmSync(work, { recursive: true, force: true });
mkdirSync(work, { mode: 0o700 });
cpSync(join(root, 'examples/digits'), project, { recursive: true });
// Twenty held-out digits; another one each day, so that nobody can say that it was chosen.
const inputs = readdirSync(join(project, 'inputs'))
  .filter((f) => f.endsWith('.json'))
  .sort();
const input = inputs[Math.floor(Date.now() / 86_400_000) % inputs.length] ?? '00.json';

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

function atomaTee(title: string, args: string[], options: { expect?: number; quiet?: boolean } = {}): Outcome {
  console.log(`\n${ansis.bold(title)}`);
  console.log(ansis.dim(`$ atoma-tee ${args.join(' ')}`));
  const before = performance.now();
  const child = spawnSync('bin/atoma-tee', args, {
    stdio: ['ignore', 'pipe', options.expect ? 'pipe' : 'inherit'],
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    // A pipe is no terminal; ours is, if this process's is.
    env: { ...process.env, ...(process.stdout.isTTY && !process.env.NO_COLOR ? { FORCE_COLOR: '1' } : {}) },
  });
  const elapsed = performance.now() - before;
  timings.push([title, elapsed]);
  const outcome = { code: child.status ?? 1, stdout: child.stdout ?? '', stderr: child.stderr ?? '' };
  const text = [outcome.stdout, outcome.stderr]
    .map((s) => s.trimEnd())
    .filter(Boolean)
    .join('\n');
  if (!options.quiet && text) console.log(text);
  console.log(ansis.dim(`exit ${outcome.code}, ${(elapsed / 1000).toFixed(2)} s`));
  return outcome;
}

function must(outcome: Outcome): void {
  if (outcome.code !== 0) {
    console.error(
      `\n${ansis.red('the quickstart stops here:')} the command above failed with exit code ${outcome.code}`,
    );
    process.exit(outcome.code);
  }
}

/** Changes one bit in the middle of a copy. */
function flipOneByte(from: string, to: string): number {
  cpSync(from, to);
  const offset = Math.floor(statSync(to).size / 2);
  const fd = openSync(to, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, offset);
  writeSync(fd, Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, offset);
  closeSync(fd);
  return offset;
}

/** Debian mirrors drop superseded versions. Then, once and said aloud: the measurement becomes another one. */
function build(): void {
  const args = ['build', show(project)];
  let outcome = atomaTee('Build the enclave image', args);
  if (outcome.code !== 0 && !process.env.CI) {
    const again = spawnSync('bin/atoma-tee', [...args, '--json'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const code = again.status === 0 ? undefined : JSON.parse(again.stdout).error.code;
    if (code === 'ERR_INPUT_GONE' || code === 'ERR_LOCK_TOOLKIT') {
      const how = code === 'ERR_LOCK_TOOLKIT' ? '--toolkit' : '--update';
      console.log(
        ansis.yellow(`\n${code}: locking again, in ${show(project)} only; the measurement will be another one.`),
      );
      must(atomaTee('Lock the inputs again', ['lock', show(project), how]));
      outcome = atomaTee('Build the enclave image', args);
    }
  }
  must(outcome);
}

build();
const manifest = join(dist, 'build.intoto.json');
const image = join(dist, 'digits.eif');
const sealed = join(work, 'digits.sealed');
const [receipt, evidence, response] = ['receipt.cbor', 'evidence.json', 'response.json'].map((f) => join(work, f)) as [
  string,
  string,
  string,
];

must(atomaTee('Make a broker key', ['keygen', '--type', 'broker', '--out', show(join(work, 'broker.key'))]));
must(atomaTee('Make a recovery key', ['keygen', '--type', 'recovery', '--out', show(join(work, 'recovery.key'))]));

must(
  atomaTee('Seal the model to that image', [
    'seal',
    show(join(project, 'model')),
    '--manifest',
    show(manifest),
    '--sign',
    show(join(project, 'demo-owner.key')),
    '--to',
    show(join(work, 'broker.key.pub')),
    '--recovery',
    show(join(work, 'recovery.key.pub')),
    '--allow-simulated',
    'local',
    '--out',
    show(sealed),
  ]),
);
const runArgs = (manifestPath: string, model: string) => [
  'run',
  show(manifestPath),
  '--model',
  show(model),
  '--input',
  show(join(project, 'inputs', input)),
  '--broker-key',
  show(join(work, 'broker.key')),
  '--allow-simulated',
  'local',
];
must(
  atomaTee('Ask it, inside the simulated TEE', [
    ...runArgs(manifest, sealed),
    '--receipt',
    show(receipt),
    '--evidence',
    show(evidence),
    '--response',
    show(response),
  ]),
);
must(
  atomaTee('Verify everything', [
    'verify',
    show(manifest),
    show(image),
    show(sealed),
    show(evidence),
    show(receipt),
    '--manifest',
    show(manifest),
    '--evidence',
    show(evidence),
    '--request',
    show(join(project, 'inputs', input)),
    '--response',
    show(response),
    '--allow-simulated',
    'local',
  ]),
);

const question = JSON.parse(readFileSync(join(project, 'inputs', input), 'utf8'));
const labels = JSON.parse(readFileSync(join(project, 'labels.json'), 'utf8'));
const answer = JSON.parse(readFileSync(response, 'utf8'));
const predicted = answer.outputs.find((o: { name: string }) => o.name === 'label').data[0];
const truth = labels[input.replace('.json', '')];

console.log(ansis.bold('\nNow somebody flips one bit'));
const badModel = join(work, 'tampered.sealed');
const badDist = join(work, 'tampered');
console.log(`at byte ${flipOneByte(sealed, badModel)} of the sealed model`);
const refusals = [atomaTee('A tampered model', runArgs(manifest, badModel), { expect: 3 })];
mkdirSync(badDist);
cpSync(manifest, join(badDist, 'build.intoto.json'));
cpSync(join(dist, 'measurements.json'), join(badDist, 'measurements.json'));
console.log(`\nat byte ${flipOneByte(image, join(badDist, 'digits.eif'))} of the image`);
refusals.push(
  atomaTee('A tampered image', ['verify', show(join(badDist, 'digits.eif')), '--manifest', show(manifest)], {
    expect: 3,
  }),
);
refusals.push(atomaTee('Running it all the same', runArgs(join(badDist, 'build.intoto.json'), sealed), { expect: 3 }));
const refused = refusals.every((r) => r.code === 3 || r.code === 4);

console.log(`\n${drawDigit(question.inputs[0].data)}`);
console.log(
  `\nheld-out input ${input}: label ${truth}, predicted ${ansis.bold(String(predicted))} ${predicted === truth ? ansis.green('✔') : ansis.red('✘')}`,
);
console.log(`tampered model and image: ${refused ? ansis.green('refused ✔') : ansis.red('NOT REFUSED ✘')}`);
console.log('\nfiles');
for (const [what, path] of [
  ['image', image],
  ['build manifest', manifest],
  ['sealed model', sealed],
  ['receipt', receipt],
  ['evidence', evidence],
  ['response', response],
]) {
  console.log(`  ${what?.padEnd(15)} ${show(path ?? '')}`);
}
console.log('\ntimings');
for (const [title, ms] of timings) console.log(`  ${title.padEnd(34)} ${(ms / 1000).toFixed(2).padStart(6)} s`);
console.log(`  ${'all'.padEnd(34)} ${((performance.now() - started) / 1000).toFixed(2).padStart(6)} s`);
process.exit(predicted === truth && refused ? 0 : 1);
