import {
  appendFileSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { build } from '../../../src/tasks/build/index.ts';
import { loadImages } from '../../../src/tasks/image.ts';
import { verify } from '../../../src/tasks/verify/index.ts';
import { sha256, temporaryDirectory } from '../image/fixtures.ts';
import { gramineProject, SMALL } from './project.ts';

const kept = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
afterAll(() => rmSync(kept, { recursive: true, force: true }));

/** A copy of a build; each kind is built once. */
async function built(targets = ['nitro', 'gramine'], table = SMALL) {
  const original = join(kept, sha256(`${targets} ${table}`));
  if (!existsSync(original)) {
    const { dir, cacheDir, programPath } = await gramineProject(targets, table);
    await build({ project: dir, cacheDir, programPath, out: original });
  }
  const dist = join(temporaryDirectory(), 'dist');
  cpSync(original, dist, { recursive: true });
  return { dist, manifest: join(dist, 'build.intoto.json') };
}

async function judge(manifest: string) {
  const report = await verify({ files: [manifest], expect: [], allowSimulated: [] });
  const [result] = report.results;
  const failed = result?.checks.filter(({ status }) => status === 'fail') ?? [];
  return { verdict: report.verdict, failed, ids: result?.checks.map(({ id }) => id), notChecked: result?.notChecked };
}

describe('verify of a build manifest passes', () => {
  test.each([[['nitro', 'gramine']], [['gramine']], [['nitro']]])('with the images of %s', async (targets) => {
    const { manifest } = await built(targets);
    const { verdict, failed, ids } = await judge(manifest);
    expect(failed).toEqual([]);
    expect(verdict).toBe('pass');
    const [pcr0, mrenclave] = [ids?.includes('measurement.pcr0'), ids?.includes('measurement.mrenclave')];
    expect([pcr0, mrenclave]).toEqual([targets.includes('nitro'), targets.includes('gramine')]);
  });

  test('where it was moved to; without the OCI layout it says so', async () => {
    const { dist } = await built(['gramine']);
    const moved = join(temporaryDirectory(), 'moved');
    cpSync(dist, moved, { recursive: true });
    expect((await judge(join(moved, 'build.intoto.json'))).verdict).toBe('pass');
    rmSync(join(moved, 'digits.oci'), { recursive: true });
    const { verdict, notChecked } = await judge(join(moved, 'build.intoto.json'));
    expect(verdict).toBe('pass');
    expect(notChecked?.join('\n')).toContain('OCI layout');
  });
});

describe('verify of a build manifest fails for', () => {
  const ROOT = 'digits.gramine/root';
  const failing = async (change: (dist: string) => void, table = SMALL) => {
    const { dist, manifest } = await built(['gramine'], table);
    change(dist);
    const { verdict, failed, notChecked } = await judge(manifest);
    return { verdict, ids: failed.map(({ id }) => id), text: JSON.stringify(failed), notChecked };
  };

  test('a trusted file that was changed, and one that was removed: both are named', async () => {
    const { verdict, ids, text } = await failing((dist) => {
      appendFileSync(join(dist, ROOT, 'app/program.mjs'), 'evil()');
      rmSync(join(dist, ROOT, 'lib/libc.so.6'));
    });
    expect(verdict).toBe('fail');
    expect(ids).toEqual(['gramine.files-missing', 'gramine.files-changed']);
    expect(text).toMatch(/app\/program\.mjs.*/);
    expect(text).toMatch(/libc\.so\.6/);
  });

  test('a byte changed and the length kept', async () => {
    const { ids } = await failing((dist) => {
      const path = join(dist, ROOT, 'bin/tool');
      writeFileSync(path, readFileSync(path, 'utf8').replace('tool', 'fool'));
    });
    expect(ids).toEqual(['gramine.files-changed']);
  });

  test('a trusted file that became a link to the same bytes, and a directory that did', async () => {
    const { ids, text } = await failing((dist) => {
      const [file, dir] = [join(dist, ROOT, 'bin/tool'), join(dist, ROOT, 'lib')];
      for (const path of [file, dir]) {
        renameSync(path, `${path}.real`);
        symlinkSync(`${path}.real`, path);
      }
    });
    expect(ids).toEqual(['gramine.files-missing', 'gramine.files-changed']);
    expect(text).toContain('bin/tool');
  });

  test('not for files that no manifest trusts: Gramine opens none; they are reported, control characters as JSON', async () => {
    const { verdict, notChecked } = await failing((dist) => {
      writeFileSync(join(dist, ROOT, 'evil\x1b[2J.so'), 'x');
      symlinkSync('/etc/passwd', join(dist, ROOT, 'etc/passwd'));
    });
    expect(verdict).toBe('pass');
    expect(notChecked?.join('\n')).toContain('2 files in the image');
    expect(notChecked?.join('\n')).toContain('"evil\\u001b[2J.so"');
  });

  test('another libpal.so, another libsysdb.so, a manifest with one byte more', async () => {
    for (const file of ['digits.gramine/libpal.so', 'digits.gramine/libsysdb.so', 'digits.manifest.sgx']) {
      const { verdict, ids } = await failing((dist) => {
        const bytes = readFileSync(join(dist, file));
        if (file.endsWith('.sgx')) appendFileSync(join(dist, file), '\n');
        else writeFileSync(join(dist, file), bytes.fill(0x5a, 0x800, 0x900));
      });
      expect(verdict).toBe('fail');
      expect(ids).toContain('gramine.enclave');
    }
  });

  test('a signature by another key over the same enclave', async () => {
    const { generateKey } = await import('../../../src/keys/generate.ts');
    const { readSgxSigner, signManifest } = await import('../../../src/gramine/index.ts');
    const { parseManifest } = await import('../../../src/gramine/manifest.ts');
    const { dist, manifest } = await built(['gramine']);
    const key = join(dist, 'evil.pem');
    writeFileSync(key, generateKey('sgx').privatePem);
    const bytes = readFileSync(join(dist, 'digits.manifest.sgx'));
    const { sigstruct } = await signManifest({
      manifest: bytes,
      table: parseManifest(bytes.toString(), 'x'),
      libpal: readFileSync(join(dist, 'digits.gramine/libpal.so')),
      signer: await readSgxSigner({ key }),
      date: '2023-11-14',
    });
    writeFileSync(join(dist, 'digits.sig'), sigstruct);
    const { failed } = await judge(manifest);
    expect(failed.map(({ id }) => id)).toEqual([
      'gramine.sigstruct-sha256',
      'gramine.sigstruct-sha384',
      'measurement.mrsigner',
    ]);
    await expect(loadImages(manifest)).rejects.toMatchObject({ code: 'ERR_IMAGE_DIGEST', exitCode: 3 });
  });

  test('a configuration that the manifest does not trust: another owner in enclave.json', async () => {
    const { dist, manifest } = await built(['gramine']);
    const path = join(dist, ROOT, 'etc/atoma-tee/enclave.json');
    const config = JSON.parse(readFileSync(path, 'utf8'));
    writeFileSync(path, JSON.stringify({ ...config, model: { ...config.model, owner: '0'.repeat(64) } }));
    expect((await judge(manifest)).verdict).toBe('fail');
    await expect(loadImages(manifest)).rejects.toMatchObject({ code: 'ERR_GRAMINE_FILE_DIGEST', exitCode: 3 });
  });

  test('a blob of the OCI layout that was changed, cut off, or removed; another image in it', async () => {
    const blobs = (dist: string) => join(dist, 'digits.oci/blobs/sha256');
    const largest = (dist: string) => {
      const paths = readdirSync(blobs(dist)).map((name) => join(blobs(dist), name));
      return paths.sort((a, b) => lstatSync(b).size - lstatSync(a).size)[0] ?? '';
    };
    const changes: ((path: string) => void)[] = [
      (path) => writeFileSync(path, readFileSync(path).fill(1, 0, 10)),
      (path) => writeFileSync(path, readFileSync(path).subarray(0, 100)),
      (path) => rmSync(path),
    ];
    for (const change of changes) {
      expect((await failing((dist) => change(largest(dist)))).ids).toEqual(['gramine.layout']);
    }
    const { ids } = await failing((dist) => {
      const bytes = Buffer.from(
        JSON.stringify({ config: { digest: `sha256:${'0'.repeat(64)}`, size: 0 }, layers: [] }),
      );
      const config = Buffer.from('{}');
      const digest = (of: Buffer) => `sha256:${sha256(of)}`;
      const manifest = Buffer.from(JSON.stringify({ config: { digest: digest(config), size: 2 }, layers: [] }));
      for (const blob of [bytes, config, manifest]) writeFileSync(join(blobs(dist), sha256(blob)), blob);
      const index = { manifests: [{ digest: digest(manifest), size: manifest.length }] };
      writeFileSync(join(dist, 'digits.oci/index.json'), JSON.stringify(index));
    });
    expect(ids).toEqual(['gramine.layout-manifest']);
  });

  test('a debug enclave', async () => {
    expect((await failing(() => {}, `${SMALL}debug = true\n`)).ids).toEqual(['gramine.debug']);
  });

  test('a manifest that leaves the signature out of its subjects', async () => {
    const { ids } = await failing((dist) => {
      const path = join(dist, 'build.intoto.json');
      const statement = JSON.parse(readFileSync(path, 'utf8'));
      statement.subject = statement.subject.filter(({ name }: { name: string }) => !name.endsWith('.sig'));
      writeFileSync(path, JSON.stringify(statement));
    });
    expect(ids).toEqual(['gramine.subjects']);
  });
});
