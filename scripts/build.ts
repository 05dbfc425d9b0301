/** `npm run build`: TypeScript -> dist/, the enclave program -> one file, the command index -> oclif.manifest.json. */
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..');
rmSync(join(root, 'dist'), { recursive: true, force: true });

const tsc = spawnSync('tsc', ['-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' });
if (tsc.status !== 0) process.exit(tsc.status ?? 1);

// The enclave program is measured: one file, no comments that change with paths, no source map.
if (existsSync(join(root, 'src/enclave/main.ts'))) {
  await build({
    absWorkingDir: root,
    entryPoints: ['src/enclave/main.ts'],
    outfile: 'dist/enclave/program.mjs',
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    external: ['onnxruntime-node', 'onnxruntime-common'],
    legalComments: 'none',
    logLevel: 'warning',
    allowOverwrite: true,
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
  });
}

const { Plugin } = await import('@oclif/core');
const plugin = new Plugin({ root, ignoreManifest: true, respectNoCacheDefault: true });
await plugin.load();
writeFileSync(join(root, 'oclif.manifest.json'), `${JSON.stringify(plugin.manifest, null, 2)}\n`);
