/** templates/ci: the shell script from start to end, with a registry; the workflow and the action by their structure. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { haveRegistry, startRegistry, type TestRegistry } from '../unit/oci/registries.ts';
import { atomaTee, digits, ok, root, scratch } from './cli.ts';

const { dir, remove } = scratch();
const repo = join(dir, 'repo');
const ci = join(repo, '.github/actions/atoma-tee');
let registry: TestRegistry | undefined;

const git = (...args: string[]) => {
  const who = ['-c', 'user.name=ci', '-c', 'user.email=ci@localhost', '-c', 'commit.gpgsign=false'];
  const { stdout, status, stderr } = spawnSync('git', [...who, ...args], { cwd: repo, encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return stdout.trim();
};

/** As CI runs it: by sh, with nothing but variables. */
function script(env: Record<string, string> = {}) {
  const { GITHUB_ACTIONS: _, GITHUB_STEP_SUMMARY: __, ...clean } = process.env;
  const own = { ATOMA_TEE: join(root, 'bin/atoma-tee'), ATOMA_CI_SUMMARY: join(dir, 'summary.md') };
  rmSync(join(dir, 'summary.md'), { force: true });
  const child = spawnSync('sh', [join(ci, 'atoma-tee-ci.sh'), '.'], {
    cwd: repo,
    encoding: 'utf8',
    env: { ...clean, ...own, ...env },
  });
  const summary = existsSync(join(dir, 'summary.md')) ? readFileSync(join(dir, 'summary.md'), 'utf8') : '';
  return { code: child.status, stdout: child.stdout, stderr: child.stderr, summary };
}

beforeAll(async () => {
  cpSync(digits, repo, { recursive: true, filter: (path) => !path.endsWith('/dist') });
  cpSync(join(root, 'templates/ci'), ci, { recursive: true });
  writeFileSync(join(repo, '.gitignore'), 'dist\n');
  ok(atomaTee(['lock', repo, '--toolkit']));
  ok(atomaTee(['keygen', '--type', 'build', '--out', join(dir, 'build.key')]));
  ok(atomaTee(['keygen', '--type', 'broker', '--out', join(dir, 'broker.key')]));
  git('init', '-q');
  if (!haveRegistry) return;
  mkdirSync(join(dir, 'registry'));
  registry = await startRegistry(join(dir, 'registry'));
}, 60_000);
afterAll(async () => {
  await registry?.stop();
  remove();
});

describe('the CI script', () => {
  test('without committed measurements says what to commit', () => {
    expect(script()).toMatchObject({ code: 2, stderr: expect.stringContaining('commit it as that file') });
  });

  test('builds what was committed, signs it, rebuilds it from the manifest, saves inputs, pushes, records', () => {
    ok(atomaTee(['build', repo]));
    copyFileSync(join(repo, 'dist/measurements.json'), join(repo, 'measurements.json'));
    git('add', '-A');
    git('commit', '-qm', 'first');
    const manifest = join(repo, 'dist/build.intoto.json');
    const seal = ['seal', join(repo, 'model'), '--manifest', manifest, '--sign', join(repo, 'demo-owner.key')];
    ok(atomaTee([...seal, '--to', join(dir, 'broker.key.pub'), '--out', join(dir, 'digits.sealed')]));
    const reference = `${registry?.host}/models/digits:1`;
    const run = script({
      ATOMA_CI_SIGN_KEY: join(dir, 'build.key'),
      ATOMA_CI_SAVE_INPUTS: join(dir, 'inputs'),
      ATOMA_CI_REBUILD: '1',
      ATOMA_CI_RECORD: join(dir, 'record.jsonl'),
      ...(registry ? { ATOMA_CI_SEALED: join(dir, 'digits.sealed'), ATOMA_CI_PUSH: reference } : {}),
    });
    expect(run, run.stderr).toMatchObject({ code: 0 });
    expect(run.stdout).toContain('PASS');
    expect(run.summary).toContain('### Enclave: the committed measurements');
    const { images } = JSON.parse(readFileSync(join(repo, 'measurements.json'), 'utf8'));
    const { tee: _, ...measurement } = images[0].measurement;
    const recorded = JSON.parse(readFileSync(join(dir, 'record.jsonl'), 'utf8'));
    expect(recorded).toEqual({ commit: git('rev-parse', 'HEAD'), measurement });
    expect(git('log', '--format=%H', '-S', measurement.pcr0, '--', 'measurements.json')).toBe(recorded.commit);
    ok(atomaTee(['verify', join(repo, 'dist/build.sigstore.json'), '--key', join(dir, 'build.key.pub')]));
    expect(existsSync(join(dir, 'inputs/inputs.json'))).toBe(true);
    if (registry) ok(atomaTee(['pull', reference, '--out', join(dir, 'pulled.sealed')]));
    // Again, with the same commit: one build, one line.
    const again = ['sh', join(ci, 'record-measurement.sh'), 'measurements.json', join(dir, 'record.jsonl')] as const;
    expect(spawnSync(again[0], again.slice(1), { cwd: repo }).status).toBe(0);
    expect(readFileSync(join(dir, 'record.jsonl'), 'utf8').match(/\n/g)).toHaveLength(1);
  });

  test('fails with what differs when a commit changes the measurement; the last build stays', () => {
    const toml = join(repo, 'enclave.toml');
    const text = readFileSync(toml, 'utf8');
    writeFileSync(toml, text.replace('version = "1.0.0"', 'version = "1.0.1"'));
    const before = statSync(join(repo, 'dist/digits.eif'), { bigint: true }).mtimeNs;
    const run = script({ GITHUB_ACTIONS: 'true' });
    writeFileSync(toml, text);
    expect(run.code).toBe(3);
    expect(run.summary).toContain('The measurements are not the ones in `./measurements.json`');
    expect(run.summary).toContain('rootfs/etc/atoma-tee/enclave.json');
    const annotations = run.stdout.split('\n').filter((line) => line.startsWith('::'));
    expect(annotations.map((line) => line.slice(0, 80))).toEqual(
      ['pcr0', 'pcr2'].map((name) =>
        `::error file=./measurements.json,title=enclave measurement::nitro ${name}: expected`.slice(0, 80),
      ),
    );
    expect(statSync(join(repo, 'dist/digits.eif'), { bigint: true }).mtimeNs).toBe(before);
    const json = atomaTee(['build', repo, '--offline', '--check', join(repo, 'enclave.toml'), '--json']);
    expect([json.code, json.json.error.code]).toEqual([2, 'ERR_MEASUREMENTS_MALFORMED']);
  });

  test('takes text of an error for text: no command of the CI system comes out of it', () => {
    const lock = join(repo, 'atoma-tee.lock');
    const text = readFileSync(lock, 'utf8');
    writeFileSync(lock, text.replace('version = 1', 'version = "%0A::set-env name=x::y"\n"\\n::error::z" = 1'));
    const run = script({ GITHUB_ACTIONS: 'true' });
    writeFileSync(lock, text);
    expect(run.code).toBe(2);
    expect(run.stdout.split('\n').filter((line) => line.startsWith('::'))).toHaveLength(1);
    expect(run.stdout).not.toMatch(/^::set-env|%0A/m);
    // The runner trims a line, and reads both streams.
    expect(run.stderr).not.toContain('::');
  });
});

describe('the workflow', () => {
  const load = (name: string) => {
    const text = readFileSync(join(root, 'templates/ci', name), 'utf8');
    return { text, yaml: parse(text, { strict: true, uniqueKeys: true }) };
  };
  const { yaml: workflow, text } = load('github-workflow.yml');
  const { yaml: action } = load('action.yml');
  const jobs = Object.values(workflow.jobs) as any[];
  const steps = jobs.flatMap((job) => job.steps);

  test('has jobs that wait for jobs, steps that do one thing, and no more rights than reading', () => {
    expect(Object.keys(workflow).sort()).toEqual(['env', 'jobs', 'name', 'on', 'permissions']);
    expect(workflow.permissions).toEqual({ contents: 'read' });
    for (const job of jobs) {
      expect(job['runs-on']).toBe('ubuntu-latest');
      if (job.needs) expect(Object.keys(workflow.jobs)).toContain(job.needs);
    }
    for (const step of steps) expect([step.uses, step.run].filter((one) => one !== undefined)).toHaveLength(1);
    const used = [...new Set(steps.flatMap(({ uses }) => uses ?? []))].sort();
    expect(used).toEqual(['./.github/actions/atoma-tee', 'actions/checkout@v4', 'actions/upload-artifact@v4']);
  });

  test('puts nothing that others write into a script, and the key into a file that goes', () => {
    for (const { run } of [...steps, ...action.runs.steps]) expect(run ?? '').not.toContain('${{');
    expect(text.match(/secrets\.\w+/g)).toEqual(['secrets.ATOMA_TEE_BUILD_KEY']);
    expect(workflow.on).not.toHaveProperty('pull_request_target');
    const removal = steps.find(({ run }) => run?.startsWith('rm -f'));
    expect(removal.if).toBe('always()');
  });

  test('gives the action what it takes, and the action gives the script what it reads', () => {
    const inputs = Object.keys(action.inputs);
    for (const { uses, with: given = {} } of steps) {
      if (uses === './.github/actions/atoma-tee') expect(inputs).toEqual(expect.arrayContaining(Object.keys(given)));
    }
    const [step] = action.runs.steps;
    const taken = Object.values(step.env).map((value) => /^\$\{\{ inputs\.([a-z-]+) \}\}$/.exec(String(value))?.[1]);
    expect(taken.sort()).toEqual([...inputs].sort());
    const read = readFileSync(join(root, 'templates/ci/atoma-tee-ci.sh'), 'utf8');
    for (const name of Object.keys(step.env)) expect(`${read}${step.run}`).toMatch(new RegExp(`\\$\\{?${name}\\b`));
  });
});
