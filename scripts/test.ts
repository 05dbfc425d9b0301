/** `npm test`: unit and e2e, or those of them and `kernel` (slow) that are named: `npm test -- unit`. Ends with the one line that CI counts: "N passed, N failed". */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { startVitest } from 'vitest/node';

const packages = spawnSync(join(import.meta.dirname, 'debian-packages.sh'), { stdio: 'inherit' });
if (packages.status !== 0) process.exit(packages.status ?? 1);

const KNOWN = ['unit', 'e2e', 'kernel'];
const named = process.argv.slice(2).filter((a) => KNOWN.includes(a));
const filters = process.argv.slice(2).filter((a) => !KNOWN.includes(a));
const project = named.length > 0 ? named : ['unit', 'e2e'];
const vitest = await startVitest('test', filters, { watch: false, project });

let passed = 0;
let failed = 0;
let skipped = 0;
for (const file of vitest.state.getTestModules()) {
  for (const test of file.children.allTests()) {
    const { state } = test.result();
    if (state === 'passed') passed++;
    else if (state === 'failed') failed++;
    else skipped++;
  }
  // A file that does not load has no tests, and is a failure all the same.
  if (file.state() === 'failed' && [...file.children.allTests('failed')].length === 0) failed++;
}
const broken = failed > 0 || passed === 0 || vitest.state.getUnhandledErrors().length > 0;
await vitest.close();
console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exit(broken ? 1 : 0);
