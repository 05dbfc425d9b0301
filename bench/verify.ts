/**
 * `verify` of a build manifest against hashing its artifacts once: SHA-256 and SHA-384 of the image by OpenSSL, one after the other as
 * a script would, and at the same time on two cores. bin/with-node bench/verify.ts [DIST] (default: builds examples/digits into a temporary directory).
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { build } from '../src/tasks/build/index.ts';
import { verify } from '../src/tasks/verify/index.ts';
import { interleave, median, report } from './lib.ts';

const run = promisify(execFile);
const ROUNDS = 7;

const dir = mkdtempSync(join(tmpdir(), 'atoma-bench-verify-'));
try {
  const dist = process.argv[2] ?? join(dir, 'dist');
  if (process.argv[2] === undefined)
    await build({ project: join(import.meta.dirname, '../examples/digits'), out: dist });
  const files = readdirSync(dist)
    .map((name) => join(dist, name))
    .filter((path) => statSync(path).isFile());
  const digest = (name: string) => run('openssl', ['dgst', `-${name}`, ...files]);
  const times = await interleave(ROUNDS, {
    verify: async () => {
      const { verdict } = await verify({ files: [join(dist, 'build.intoto.json')], expect: [], allowSimulated: [] });
      if (verdict !== 'pass') throw new Error('expected a pass');
    },
    apart: async () => {
      await digest('sha256');
      await digest('sha384');
    },
    // PCR0 and PCR2 are SHA-384 over nearly all of an image each: no pass over it does with fewer hashes than these.
    limit: () =>
      Promise.all([digest('sha384').then(() => digest('sha256')), digest('sha384').then(() => digest('sha384'))]),
    together: () => Promise.all(['sha256', 'sha384'].map(digest)),
  });
  const bytes = files.reduce((sum, path) => sum + statSync(path).size, 0);
  console.log(`${(bytes / 1e6).toFixed(0)} MB; medians of ${ROUNDS} rounds`);
  for (const [name, values] of Object.entries(times)) console.log(`${name}: ${median(values).toFixed(0)} ms`);
  report('verify / sha256 then sha384', median(times.verify) / median(times.apart), 1.2);
  report(
    'verify / sha256 and three sha384 (with PCR0 and PCR2) on two cores',
    median(times.verify) / median(times.limit),
  );
  report('verify / both at the same time', median(times.verify) / median(times.together));
} finally {
  rmSync(dir, { recursive: true, force: true });
}
