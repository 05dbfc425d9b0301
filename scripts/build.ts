/** `npm run build`: TypeScript -> dist/, the enclave program -> one file, the command index -> oclif.manifest.json. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, type Metafile } from 'esbuild';

const root = join(import.meta.dirname, '..');
rmSync(join(root, 'dist'), { recursive: true, force: true });

const tsc = spawnSync('tsc', ['-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' });
if (tsc.status !== 0) process.exit(tsc.status ?? 1);

// The enclave program is measured: one file, no comments that change with paths, no source map.
if (existsSync(join(root, 'src/enclave/main.ts'))) {
  const { metafile } = await build({
    metafile: true,
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
  recordPackages(metafile);
}

const { Plugin } = await import('@oclif/core');
const plugin = new Plugin({ root, ignoreManifest: true, respectNoCacheDefault: true });
await plugin.load();
writeFileSync(join(root, 'oclif.manifest.json'), `${JSON.stringify(plugin.manifest, null, 2)}\n`);

/** Which npm packages went into the program: its bill of materials (src/bom/bundled.ts). */
function recordPackages({ outputs }: Metafile): void {
  const inputs = Object.values(outputs).flatMap((output) => Object.entries(output.inputs));
  const directories = inputs.flatMap(([path, { bytesInOutput }]) => {
    const [directory] = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path) ?? [];
    return directory !== undefined && bytesInOutput > 0 ? [directory] : [];
  });
  const manifests = [...new Set(directories)].sort().map((directory) => {
    const { name, version, license } = JSON.parse(readFileSync(join(root, directory, 'package.json'), 'utf8'));
    return { name, version, license };
  });
  // One version can lie in several places.
  const packages = [...new Map(manifests.map((each) => [`${each.name}@${each.version}`, each])).values()];
  const program = createHash('sha256')
    .update(readFileSync(join(root, 'dist/enclave/program.mjs')))
    .digest('hex');
  const record = join(root, 'dist/enclave/program.packages.json');
  writeFileSync(record, `${JSON.stringify({ program, packages }, null, 2)}\n`);
}
