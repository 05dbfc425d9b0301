import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Cache } from '../../../src/image/cache.ts';
import { encodeFragment } from '../../../src/kernel/fragment.ts';
import { openSmallKernel, smallKernel } from '../../../src/kernel/small.ts';
import { findTools } from '../../../src/kernel/tools.ts';
import { REPO, serve, sha256, temporaryDirectory } from '../image/fixtures.ts';
import { MAKEFILE, type TinySource, tinyBzImage, tinySource, written } from './tiny.ts';

// The real way from package to cache, with a source of two files: that the real source builds is test/kernel's.
const tools = await findTools().then(
  () => true,
  () => false,
);

let cacheDir: string;

/** A mirror of security updates that has the package, and a cache of its own. */
async function here(tiny: TinySource) {
  const mirror = await serve(new Map([[`/${tiny.path}`, tiny.bytes]]));
  vi.stubEnv('ATOMA_TEE_DEBIAN_SECURITY_MIRROR', mirror.url);
  const cache = await Cache.open(cacheDir);
  return { cache, recipe: tiny.recipe, mirror };
}

const left = () => readdirSync(join(cacheDir, 'tmp'));
const kernels = () => (existsSync(join(cacheDir, 'kernels')) ? readdirSync(join(cacheDir, 'kernels')) : []);
const nothingLeft = () => expect([left(), kernels()]).toEqual([[], []]);

beforeEach(() => {
  cacheDir = temporaryDirectory();
});
afterEach(() => {
  vi.unstubAllEnvs();
});

describe.runIf(tools)('the small kernel', () => {
  test('is built once, and kept with its configuration and a record of what it was built from', async () => {
    const { cache, recipe, mirror } = await here(await tinySource());
    const built = await smallKernel({ cache, recipe });
    const digest = sha256(tinyBzImage());
    expect(built).toMatchObject({ cached: false, pin: { version: '6.12.117', sha256: digest } });
    expect(readFileSync(built.kernel.path)).toEqual(tinyBzImage());
    expect(readFileSync(built.kernel.config, 'utf8')).toBe(encodeFragment(recipe.fragment));
    const record = JSON.parse(readFileSync(join(built.kernel.path, '../kernel.json'), 'utf8'));
    expect(record).toMatchObject({
      version: '6.12.117',
      sha256: digest,
      inputs: { source: { version: '6.12.117-1' } },
    });
    expect(kernels()).toEqual([built.pin.inputs]);
    expect(left()).toEqual([]);

    const again = await smallKernel({ cache, recipe, offline: true });
    expect(again).toEqual({ ...built, cached: true });
    expect(mirror.hits).toHaveLength(1);
    expect(await openSmallKernel(digest, cache)).toMatchObject({ path: built.kernel.path, version: '6.12.117' });
    expect(await openSmallKernel('0'.repeat(64), cache)).toBe(null);
  });

  test('exchanged in the cache is refused, and built again', async () => {
    const { cache, recipe } = await here(await tinySource());
    const { kernel, pin } = await smallKernel({ cache, recipe });
    writeFileSync(kernel.path, tinyBzImage('6.6.6'));
    expect(await openSmallKernel(pin.sha256, cache)).toBe(null);
    const again = await smallKernel({ cache, recipe });
    expect(again).toMatchObject({ cached: false, pin });
    expect(readFileSync(again.kernel.path)).toEqual(tinyBzImage());
    expect(left()).toEqual([]);
  });

  test('exchanged together with its record is not the one that a lock pins', async () => {
    const { cache, recipe } = await here(await tinySource());
    const { kernel, pin } = await smallKernel({ cache, recipe });
    const evil = tinyBzImage('6.6.6');
    const path = join(kernel.path, '../kernel.json');
    writeFileSync(kernel.path, evil);
    writeFileSync(path, JSON.stringify({ ...kernel.record, sha256: sha256(evil), size: evil.length }));
    expect(await openSmallKernel(pin.sha256, cache)).toBe(null);
  });

  test('of other inputs under this name is refused', async () => {
    const { cache, recipe } = await here(await tinySource());
    const { kernel } = await smallKernel({ cache, recipe });
    const path = join(kernel.path, '../kernel.json');
    const { inputs } = kernel.record;
    writeFileSync(path, JSON.stringify({ ...kernel.record, inputs: { ...inputs, config: '0'.repeat(64) } }));
    expect(await smallKernel({ cache, recipe })).toMatchObject({ cached: false });
  });

  test('of a source with another digest than pinned is not built', async () => {
    const tiny = await tinySource();
    const { cache, recipe } = await here(tiny);
    tiny.bytes.write('!', tiny.bytes.length - 1);
    await expect(smallKernel({ cache, recipe })).rejects.toMatchObject({ code: 'ERR_INPUT_DIGEST', exitCode: 3 });
    nothingLeft();
    expect(readdirSync(join(cacheDir, 'archives'))).toEqual([]);
  });

  test('whose source was damaged in the cache is built from one unpacked anew', async () => {
    const { cache, recipe, mirror } = await here(await tinySource());
    await smallKernel({ cache, recipe });
    for (const name of readdirSync(join(cacheDir, 'kernels'))) {
      writeFileSync(join(cacheDir, 'kernels', name, 'bzImage'), '');
    }
    for (const name of readdirSync(join(cacheDir, 'files'))) {
      const path = join(cacheDir, 'files', name);
      writeFileSync(path, Buffer.alloc(statSync(path).size));
    }
    expect(await smallKernel({ cache, recipe })).toMatchObject({ cached: false });
    expect(mirror.hits).toHaveLength(1);
    expect(left()).toEqual([]);
  });

  test('is built elsewhere where the cache’s path means something to make', async () => {
    cacheDir = join(cacheDir, 'a b:c $(shell false) # d');
    const { cache, recipe } = await here(
      await tinySource(`ifneq ($(words $(subst :, ,$(CURDIR))), 1)\n$(error no spaces or colons)\nendif\n${MAKEFILE}`),
    );
    const elsewhere = temporaryDirectory();
    vi.stubEnv('TMPDIR', elsewhere);
    expect(await smallKernel({ cache, recipe })).toMatchObject({ cached: false });
    expect(kernels()).toHaveLength(1);
    expect([left(), readdirSync(elsewhere)]).toEqual([[], []]);
  });

  test('without its source is exit 5 when offline', async () => {
    const { cache, recipe } = await here(await tinySource());
    await expect(smallKernel({ cache, recipe, offline: true })).rejects.toMatchObject({
      code: 'ERR_OFFLINE_MISSING',
      exitCode: 5,
    });
    nothingLeft();
  });

  test('whose configuration lacks a symbol is not built: the symbol is named', async () => {
    const lossy = MAKEFILE.replace('cp $(KCONFIG_ALLCONFIG) .config', 'grep -v SMP $(KCONFIG_ALLCONFIG) > .config');
    const { cache, recipe } = await here(await tinySource(lossy));
    await expect(smallKernel({ cache, recipe })).rejects.toMatchObject({
      code: 'ERR_KERNEL_CONFIG',
      exitCode: 5,
      message: expect.stringContaining('SMP (expected y, found not set)'),
    });
    nothingLeft();
  });

  test('that make cannot build fails with the end of what make printed', async () => {
    const broken = MAKEFILE.replace('cp image', "echo 'undefined reference to everything' >&2; false; cp image");
    const { cache, recipe } = await here(await tinySource(broken.replace('; false; cp', ' && false && cp')));
    const error = await smallKernel({ cache, recipe }).catch((e) => e);
    expect(error).toMatchObject({ code: 'ERR_KERNEL_BUILD', exitCode: 1 });
    expect(error.message).toContain('status 2');
    expect(error.message).toContain('undefined reference to everything');
    nothingLeft();
  });

  test('that is no kernel is not kept', async () => {
    const { cache, recipe } = await here(await tinySource(MAKEFILE.replace('cp image', 'cp Makefile')));
    await expect(smallKernel({ cache, recipe })).rejects.toMatchObject({ code: 'ERR_KERNEL_FILE' });
    nothingLeft();
  });

  test('sees nothing of the environment, and no descriptor of ours', async () => {
    vi.stubEnv('KCFLAGS', '-DBACKDOOR');
    vi.stubEnv('ATOMA_TEE_SECRET', 'secret');
    vi.stubEnv('LC_ALL', 'C.UTF-8');
    const probing = MAKEFILE.replace('cp image', 'env > $(REPORT); cp image');
    const { cache, recipe } = await here(await tinySource(probing));
    const report = join(cacheDir, 'report');
    await smallKernel({ cache, recipe: { ...recipe, variables: { REPORT: report } } });
    const seen = readFileSync(report, 'utf8');
    expect(seen).toContain('LC_ALL=C\n');
    expect(seen).not.toMatch(/BACKDOOR|SECRET|C\.UTF-8/);
  });

  test.each([
    ['a path that leaves it', { name: '../evil', content: 'x' }, 'ERR_ARCHIVE_ESCAPE'],
    ['a link that leaves it', { name: 'l/evil', type: 'symlink', linkname: '../../evil' }, 'ERR_ARCHIVE_ESCAPE'],
    ['a device', { name: 'l/null', type: 'character-device' }, 'ERR_ARCHIVE_ENTRY'],
    [
      'a hard link',
      { name: 'l/Kconfig', type: 'link', linkname: 'linux-source-6.12/Makefile' },
      'ERR_ARCHIVE_MALFORMED',
    ],
  ] as const)('of a source with %s is not built', async (_, entry, code) => {
    const { cache, recipe } = await here(await tinySource(MAKEFILE, [entry]));
    await expect(smallKernel({ cache, recipe })).rejects.toMatchObject({ code, exitCode: 2 });
    nothingLeft();
    expect(existsSync(join(cacheDir, 'evil'))).toBe(false);
  });

  test.each(['SIGTERM', 'SIGKILL'] as const)('interrupted by %s ends the compilers too', async (signal) => {
    const waiting = MAKEFILE.replace('mkdir -p', "sh -c 'echo $$$$ > $(PID); exec sleep 1000'; mkdir -p");
    const { recipe } = await here(await tinySource(waiting.replace("@echo '  CC", "@sleep 0; echo '  CC")));
    const pidFile = join(cacheDir, 'pid');
    const path = written(
      temporaryDirectory(),
      'recipe.json',
      JSON.stringify({ source: recipe.source, fragment: encodeFragment(recipe.fragment), variables: { PID: pidFile } }),
    );
    const child = spawn(process.execPath, [join(REPO, 'test/unit/kernel/child.ts'), path, cacheDir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    await once(child.stdout, 'data');
    await until(() => existsSync(pidFile) && readFileSync(pidFile, 'utf8').endsWith('\n'));
    child.kill(signal);
    await ended;
    await until(() => !alive(Number(readFileSync(pidFile, 'utf8'))));
    expect(kernels()).toEqual([]);
    // Nobody can clean up after SIGKILL: the next run's cache does, when a day has passed.
    if (signal === 'SIGTERM') expect(left()).toEqual([]);
  });
});

/** Waits as long as the test may. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A zombie whose parent has not asked for it yet is dead all the same.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
