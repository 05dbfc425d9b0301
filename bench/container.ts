/**
 * `lock` and `build` of a project whose base is a container image of about 500 MB of real Debian packages (one gzip layer in
 * an OCI layout), from a cache that has never seen it, against what cannot be avoided: `skopeo copy` to a directory and one
 * SHA-384 pass over the unpacked bytes. Beside it the build from a warm cache, and the largest resident memory.
 *
 * Needs root (mmdebstrap), and Debian's mmdebstrap, umoci, skopeo, openssl. The image is kept in the temporary directory.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cacheDirectory } from '../src/core/cache-directory.ts';
import { interleave, median, report } from './lib.ts';

const root = join(import.meta.dirname, '..');
const image = join(tmpdir(), 'atoma-tee-bench-image.oci');
const dir = mkdtempSync(join(tmpdir(), 'atoma-tee-bench-'));
const at = (name: string) => join(dir, name);
const sh = (script: string) => {
  const child = spawnSync('sh', ['-euc', script], { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' });
  if (child.status !== 0) throw new Error(script);
  return child.stdout;
};

if (!existsSync(image)) {
  sh(`mmdebstrap --quiet --variant=extract --include=python3,python3-numpy,build-essential,git,perl,gdb bookworm ${at('root.tar')}
    umoci init --layout ${at('oci')}; umoci new --image ${at('oci')}:latest
    umoci raw add-layer --image ${at('oci')}:latest ${at('root.tar')}
    umoci config --image ${at('oci')}:latest --config.cmd /usr/bin/python3; umoci gc --layout ${at('oci')}; mv ${at('oci')} ${image}`);
}
const manifest = JSON.parse(readFileSync(join(image, 'index.json'), 'utf8')).manifests[0].digest.replace(':', '/');
const { layers } = JSON.parse(readFileSync(join(image, 'blobs', manifest), 'utf8'));
const blobs = layers.map(({ digest }: { digest: string }) => join(image, 'blobs', digest.replace(':', '/')));
const unpacked = Number(sh(`cat ${blobs.join(' ')} | zcat | wc -c`));
console.log(
  `${(unpacked / 1e6).toFixed(0)} MB unpacked, ${(sh(`cat ${blobs.join(' ')} | wc -c`) as never as number) / 1e6} MB in layers`,
);

const project = at('project');
cpSync(join(root, 'examples/python-server'), project, { recursive: true, filter: (path) => !path.includes('.oci') });
const toml = readFileSync(join(project, 'enclave.toml'), 'utf8')
  .replace('../digits/demo-owner.pub', join(root, 'examples/digits/demo-owner.pub'))
  .replace(/^image = .*$/m, `image = "oci-layout:${image}:latest"`);
writeFileSync(join(project, 'enclave.toml'), toml);

/** The cache of the base's packages, which is not what is measured here. */
const home = at('cache');
for (const name of ['archives', 'trees', 'files']) {
  cpSync(join(cacheDirectory(process.env), name), join(home, 'atoma-tee', name), { recursive: true });
}
const peaks: number[] = [];
const atomaTee = (...args: string[]) => {
  const command = [join(root, 'bin/atoma-tee'), ...args];
  const child = spawnSync('/usr/bin/time', ['-f', '%M', ...command], {
    env: { ...process.env, XDG_CACHE_HOME: home },
    encoding: 'utf8',
  });
  if (child.status !== 0) throw new Error(child.stderr);
  peaks.push(Number(child.stderr.trim().split('\n').at(-1)));
};

const times = await interleave(5, {
  skopeo: () => sh(`rm -rf ${at('dir')}; skopeo copy --quiet oci:${image}:latest dir:${at('dir')}`),
  sha384: () => sh(`cat ${blobs.join(' ')} | zcat | openssl dgst -sha384 >/dev/null`),
  forget: () => {
    rmSync(join(project, 'atoma-tee.lock'), { force: true });
    for (const name of ['layers', 'images']) rmSync(join(home, 'atoma-tee', name), { recursive: true, force: true });
  },
  lock: () => atomaTee('lock', project),
  build: () => atomaTee('build', project, '--offline'),
});
for (const [name, values] of Object.entries(times)) console.log(`${name.padEnd(8)} ${median(values).toFixed(0)} ms`);
const m = (name: keyof typeof times) => median(times[name]);
report(
  'lock and build, cold / (skopeo copy + decompress and SHA-384)',
  (m('lock') + m('build')) / (m('skopeo') + m('sha384')),
  1.5,
);
report('build, warm / (skopeo copy + decompress and SHA-384)', m('build') / (m('skopeo') + m('sha384')));
console.log(
  `image ${(statSync(join(project, 'dist/python-digits.eif')).size / 1e6).toFixed(0)} MB; largest resident memory ${(Math.max(...peaks) / 1024).toFixed(0)} MiB (bar 300)`,
);
rmSync(dir, { recursive: true, force: true });
