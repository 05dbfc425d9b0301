/**
 * Hashing the trusted files of a Gramine manifest against `openssl dgst -sha256`, run by xargs on as many processes as there are
 * cores, over the same tree: 2 GiB in 2,000 files (MIB and FILES say otherwise). The tree stays in the page cache: what is
 * measured is hashing and sharing out, not the disk.
 */
import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { finishManifest, parseManifest } from '../src/gramine/manifest.ts';
import { interleave, median, report } from './lib.ts';

const FILES = Number(process.env.FILES ?? 2000);
const BYTES = Number(process.env.MIB ?? 2048) * 2 ** 20;
const ROUNDS = Number(process.env.ROUNDS ?? 5);

const dir = mkdtempSync(join(tmpdir(), 'atoma-tee-bench-'));
try {
  const content = randomFillSync(Buffer.alloc(2 * Math.ceil(BYTES / FILES)));
  for (let i = 0; i < FILES; i++) {
    // Half of the files are small, as in a tree of programs; the sizes of the others sum up to what is left.
    const size = i % 2 === 0 ? 4096 + i : Math.floor((2 * BYTES) / FILES) - 4096 - i;
    const place = join(dir, 'root', `d${i % 50}`);
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, `f${i}`), content.subarray(0, Math.min(size, content.length)));
  }
  writeFileSync(join(dir, 'libsysdb.so'), 'x');
  const table = parseManifest(
    'libos.entrypoint = "/a"\nfs.mounts = []\nloader.entrypoint.uri = "file:libsysdb.so"\nsgx.trusted_files = ["file:root/"]\n',
    'bench',
  );
  const cores = String(availableParallelism());
  const openssl = `find root -type f -print0 | xargs -0 -P ${cores} -n ${Math.ceil(FILES / 20)} openssl dgst -sha256 > /dev/null`;
  const times = await interleave(ROUNDS, {
    manifest: () => finishManifest(table, { directory: dir }),
    openssl: () => execFileSync('sh', ['-c', openssl], { cwd: dir }),
  });
  const [ours, theirs] = [median(times.manifest), median(times.openssl)];
  console.log(
    `${FILES} files, ${BYTES / 2 ** 20} MiB: manifest ${ours.toFixed(0)} ms, openssl ${theirs.toFixed(0)} ms`,
  );
  report('gramine manifest / openssl dgst', ours / theirs, 1.2);
} finally {
  rmSync(dir, { recursive: true, force: true });
}
