import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { npmOptions } from '../../../src/image/npm-config.ts';

const dirs: string[] = [];
afterEach(() => {
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true });
});
function npmrc(text: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'atoma-npm-'));
  dirs.push(dir);
  // npm reads the file of the directory that has a package.json.
  writeFileSync(join(dir, 'package.json'), '{}');
  writeFileSync(join(dir, '.npmrc'), text);
  return dir;
}

test("a registry whose address holds a password is refused, not silently replaced by npm's own; the password is not shown", async () => {
  const outcome = npmOptions(npmrc('registry=https://alice:s3cr3t@127.0.0.1:1/\n'));
  await expect(outcome).rejects.toMatchObject({ code: 'ERR_NPM_REGISTRY', exitCode: 2 });
  await expect(outcome).rejects.not.toThrow(/s3cr3t/);
});

test('a registry without one is taken, with the credentials that stand beside it', async () => {
  const dir = npmrc('registry=http://127.0.0.1:1/\n//127.0.0.1:1/:_authToken=t0ken\n');
  expect(await npmOptions(dir)).toMatchObject({
    registry: 'http://127.0.0.1:1/',
    '//127.0.0.1:1/:_authToken': 't0ken',
  });
});
