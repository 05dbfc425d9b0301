import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
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
import { releasePolicy, warnings } from '../../../src/tasks/release-policy.ts';
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

type Named = { name?: string; digest: Record<string, string> }[];
type Editable = {
  subject: { name: string; digest: Record<string, string> }[];
  predicate: { runDetails: { byproducts: Named } };
};

function edit(dist: string, change: (statement: Editable) => void): void {
  const path = join(dist, 'build.intoto.json');
  const statement = JSON.parse(readFileSync(path, 'utf8')) as Editable;
  change(statement);
  writeFileSync(path, JSON.stringify(statement));
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

  test('with two images: each configuration says whose it is', async () => {
    const { manifest } = await built();
    const report = await verify({ files: [manifest], expect: [], allowSimulated: [] });
    const owners = report.results[0]?.checks.filter(({ id }) => id === 'configuration.owner');
    expect(owners?.map(({ detail }) => detail?.split(':')[0]).sort()).toEqual(['digits.eif', 'digits.manifest.sgx']);
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
    expect(ids).toEqual(['gramine.files-changed']);
    for (const name of ['bin/tool', 'lib/']) expect(text).toContain(name);
  });

  test('its root, or its whole directory, that became a link: all of it counts as changed, none as missing', async () => {
    for (const name of ['digits.gramine', ROOT]) {
      const { ids } = await failing((dist) => {
        const path = join(dist, name);
        renameSync(path, `${path}.real`);
        symlinkSync(`${path}.real`, path);
      });
      expect(ids).toEqual(['gramine.files-changed']);
    }
  });

  test('a directory that became a file: what was in it counts as changed; it is not told as untrusted', async () => {
    const { ids, notChecked } = await failing((dist) => {
      rmSync(join(dist, ROOT, 'lib'), { recursive: true });
      writeFileSync(join(dist, ROOT, 'lib'), 'x');
    });
    expect(ids).toEqual(['gramine.files-changed']);
    expect(notChecked?.join('\n')).not.toContain('"lib"');
  });

  test.each<[string, string, (path: string) => void]>([
    ['no libpal.so', 'digits.gramine/libpal.so', () => {}],
    ['a directory as libpal.so', 'digits.gramine/libpal.so', (path) => mkdirSync(path)],
    ['no signature', 'digits.sig', () => {}],
    ['no directory', 'digits.gramine', () => {}],
    [
      'a pipe as enclave.json',
      `${'digits.gramine/root'}/etc/atoma-tee/enclave.json`,
      (path) => execFileSync('mkfifo', [path]),
    ],
  ])('%s: that check fails, and the others are still made', async (_, file, change) => {
    const { verdict, ids } = await failing((dist) => {
      rmSync(join(dist, file), { recursive: true });
      change(join(dist, file));
    });
    expect(verdict).toBe('fail');
    expect(ids).toEqual(['gramine.enclave']);
  });

  test('an OCI layout that is a dangling link or a file, or does not say its version', async () => {
    const replace = (change: (path: string) => void) => (dist: string) => {
      rmSync(join(dist, 'digits.oci'), { recursive: true });
      change(join(dist, 'digits.oci'));
    };
    const changes: ((dist: string) => void)[] = [
      replace((path) => symlinkSync('/nowhere', path)),
      replace((path) => writeFileSync(path, '')),
      (dist) => rmSync(join(dist, 'digits.oci/oci-layout')),
      (dist) => writeFileSync(join(dist, 'digits.oci/oci-layout'), '{"imageLayoutVersion":"9"}'),
    ];
    for (const change of changes) expect((await failing(change)).ids).toEqual(['gramine.layout']);
  });

  test('not for what no digest of the OCI layout covers: blobs of no image and names in its index are reported', async () => {
    const { verdict, notChecked } = await failing((dist) => {
      const layout = join(dist, 'digits.oci');
      writeFileSync(join(layout, 'blobs/sha256', 'f'.repeat(64)), 'evil');
      const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8'));
      index.manifests[0].annotations = { 'org.opencontainers.image.ref.name': 'official' };
      writeFileSync(join(layout, 'index.json'), JSON.stringify(index));
    });
    expect(verdict).toBe('pass');
    for (const name of [`"blobs/sha256/${'f'.repeat(64)}"`, '"index.json#org.opencontainers.image.ref.name"']) {
      expect(notChecked?.join('\n')).toContain(name);
    }
  });

  test('a subject or byproduct that is listed twice, with another digest: it would be compared with nothing', async () => {
    for (const name of ['digits.sig', 'digits.manifest.sgx', 'measurements.json']) {
      const { ids } = await failing((dist) =>
        edit(dist, ({ subject, predicate }) => {
          const list = name.endsWith('.json') ? predicate.runDetails.byproducts : subject;
          list.push({ name, digest: { sha256: '0'.repeat(64), sha384: '0'.repeat(96) } });
        }),
      );
      expect(ids).toEqual(['manifest.statement']);
    }
  });

  test('a subject of a kind that nothing here can check, also one with the suffix of a signature', async () => {
    for (const name of ['evil.bin', 'evil.sig']) {
      const { ids, text } = await failing((dist) =>
        edit(dist, ({ subject }) => subject.push({ name, digest: { sha256: '0'.repeat(64) } })),
      );
      expect(ids).toEqual(['manifest.subject']);
      expect(text).toContain(name);
    }
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
    const table = `${SMALL}debug = true\n`;
    expect((await failing(() => {}, table)).ids).toEqual(['gramine.debug']);
    const { images } = await loadImages((await built(['gramine'], table)).manifest);
    const policy = await releasePolicy(images, { allowSimulated: [] });
    const said = warnings({ threshold: 1, brokers: 1, recovery: true, policy, images });
    expect(said.join('\n')).toContain('digits.manifest.sgx is a DEBUG enclave');
    const production = await loadImages((await built(['gramine'])).manifest);
    expect(
      warnings({ ...{ threshold: 1, brokers: 1, recovery: true, policy }, ...production }).join('\n'),
    ).not.toContain('DEBUG');
  });

  test('a manifest that leaves the signature out of its subjects', async () => {
    const { ids } = await failing((dist) =>
      edit(dist, (statement) => {
        statement.subject = statement.subject.filter(({ name }) => !name.endsWith('.sig'));
      }),
    );
    expect(ids).toEqual(['gramine.subjects']);
  });
});
