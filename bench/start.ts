/** `atoma-tee --version` against `node -e 0` of the same Node: what every command pays before it does anything. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { interleave, median, report } from './lib.ts';

const cli = join(import.meta.dirname, '../bin/atoma-tee');
const times = await interleave(20, {
  node: () => spawnSync(process.execPath, ['-e', '0']),
  version: () => spawnSync(cli, ['--version']),
  help: () => spawnSync(cli, ['--help']),
});
for (const [name, values] of Object.entries(times)) console.log(`${name.padEnd(8)} ${median(values).toFixed(1)} ms`);
report('--version / node -e 0', median(times.version) / median(times.node), 4);
report('--help / node -e 0', median(times.help) / median(times.node));
