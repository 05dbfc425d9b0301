import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parseBom } from '../../../src/bom/index.ts';
import { build } from '../../../src/tasks/build/index.ts';
import { verify } from '../../../src/tasks/verify/index.ts';
import { sha256, tinyProject } from '../image/fixtures.ts';

const root = mkdtempSync(join(tmpdir(), 'atoma-bom-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const honest = join(root, 'honest');

/** A build, whose bill of materials is exchanged by somebody who can write the (unsigned) manifest as well. */
async function forged(change: (bom: any) => void, options: { honestManifest?: boolean } = {}) {
  if (!existsSync(honest)) {
    const { dir, cacheDir, programPath } = await tinyProject();
    await build({ project: dir, cacheDir, programPath, out: honest });
  }
  const dir = mkdtempSync(join(root, 'forged-'));
  cpSync(honest, dir, { recursive: true });
  const [manifest, path] = [join(dir, 'build.intoto.json'), join(dir, 'bom.cdx.json')];
  const before = sha256(readFileSync(path));
  const bom = JSON.parse(readFileSync(path, 'utf8'));
  change(bom);
  writeFileSync(path, JSON.stringify(bom));
  if (!options.honestManifest) {
    const text = readFileSync(manifest, 'utf8');
    expect(text).toContain(before);
    writeFileSync(manifest, text.replace(before, sha256(readFileSync(path))));
  }
  const { verdict, results } = await verify({ files: [manifest], expect: [], allowSimulated: [] });
  const checks = results[0]?.checks ?? [];
  return {
    verdict,
    failed: checks
      .filter(({ status }) => status === 'fail')
      .map(({ id, detail }) => (detail ? `${id}: ${detail}` : id)),
    passed: checks.filter(({ status }) => status === 'pass').map(({ id }) => id),
  };
}
const part = (bom: any, name: string) => bom.components.find((one: { name: string }) => one.name === name);

describe('a bill of materials that does not match', () => {
  test('an honest one passes, every input compared', async () => {
    const { verdict, failed, passed } = await forged(() => {});
    expect(failed).toEqual([]);
    expect(verdict).toBe('pass');
    expect(passed).toEqual(
      expect.arrayContaining(['bom.digest', 'bom.inputs', 'bom.model', 'bom.project', 'bom.images']),
    );
  });

  test('other bytes than the manifest names', async () => {
    const { verdict, failed } = await forged((bom) => (part(bom, 'libc6').version = '1.0-2'), { honestManifest: true });
    expect(verdict).toBe('fail');
    expect(failed).toEqual(expect.arrayContaining(['bom.digest']));
  });

  test.each<[string, (bom: any) => void, string]>([
    [
      'a package left out',
      (bom) => (bom.components = bom.components.filter(({ name }: { name: string }) => name !== 'libc6')),
      'bom.inputs-missing: "pkg:deb/debian/libc6@1.0-1?arch=amd64"',
    ],
    [
      'a package too many',
      (bom) => bom.components.push({ type: 'library', name: 'x', version: '1', purl: 'pkg:npm/x@1' }),
      'bom.inputs-extra: "pkg:npm/x@1"',
    ],
    [
      'a package twice',
      (bom) => bom.components.push(part(bom, 'libc6')),
      'bom.inputs-extra: "pkg:deb/debian/libc6@1.0-1?arch=amd64"',
    ],
    [
      'another digest',
      (bom) => (part(bom, 'libc6').hashes[0].content = '00'.repeat(32)),
      'bom.inputs-different: "pkg:deb/debian/libc6@1.0-1?arch=amd64"',
    ],
    [
      'no digest',
      (bom) => (part(bom, 'libc6').hashes = []),
      'bom.inputs-different: "pkg:deb/debian/libc6@1.0-1?arch=amd64"',
    ],
    ['another version beside the package URL', (bom) => (part(bom, 'libc6').version = '9.9'), 'bom.names: "libc6"'],
    ['another name beside the package URL', (bom) => (part(bom, 'libc6').name = 'musl'), 'bom.names: "musl"'],
    [
      'the init of another toolkit',
      (bom) => (part(bom, 'init').hashes[0].content = '00'.repeat(32)),
      'bom.inputs-different: "pkg:npm/atoma-tee@0.1.0#templates/nitro/init"',
    ],
    [
      'a part that claims nothing',
      (bom) => bom.components.push({ type: 'library', name: 'x' }),
      'bom.inputs-extra: "a part without a package URL"',
    ],
    ['another model', (bom) => (part(bom, 'model').hashes[0].content = '00'.repeat(32)), 'bom.model'],
    ['two models', (bom) => bom.components.push(part(bom, 'model')), 'bom.model'],
    ['another project', (bom) => (bom.metadata.component.name = 'x'), 'bom.project'],
    [
      'another measurement',
      (bom) => (bom.metadata.component.components[0].properties[0].value = '00'.repeat(48)),
      'bom.images',
    ],
    ['no image', (bom) => delete bom.metadata.component.components, 'bom.images'],
  ])('%s, in a manifest that names it', async (_what, change, expected) => {
    const { verdict, failed } = await forged(change);
    expect(verdict).toBe('fail');
    expect(failed).toEqual([expected]);
  });

  test('something else than a bill of materials of ours', async () => {
    const { failed } = await forged((bom) => (bom.bomFormat = 'SPDX'));
    expect(failed.join()).toMatch(/^bom\.format: .*ERR_BOM_MALFORMED/);
  });

  test.each(['', '[]', 'null', '{"bomFormat":"CycloneDX"}', '['.repeat(200_000)])('malformed: %.20s', (text) => {
    expect(() => parseBom(Buffer.from(text))).toThrow(
      expect.objectContaining({ code: 'ERR_BOM_MALFORMED', exitCode: 2 }),
    );
  });
});
