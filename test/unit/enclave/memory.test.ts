import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { peakMemoryMb, requireMemory } from '../../../src/enclave/memory.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
  mkdirSync(join(root, 'proc'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const MIB = 1 << 20;
const available = (mib: number) =>
  writeFileSync(join(root, 'proc/meminfo'), `MemTotal: 9 kB\nMemAvailable:   ${mib * 1024} kB\n`);

test('a model that does not fit is refused before it is opened, with needed and found', () => {
  available(300);
  expect(() => requireMemory(200 * MIB, 'onnx', root)).toThrow(
    'expected 464 MiB of free memory for a sealed model of 200 MiB, found 300 MiB',
  );
  requireMemory(100 * MIB, 'onnx', root);
  requireMemory(200 * MIB, 'command', root);
});

test('where the kernel does not say, nothing is refused', () => {
  requireMemory(200 * MIB, 'onnx', root);
});

test('where the kernel counts no peak (Gramine has no getrusage), what is used now', () => {
  const peak = peakMemoryMb();
  expect(peak).toBeGreaterThan(10);
  const usage = vi.spyOn(process, 'resourceUsage').mockImplementation(() => {
    throw Object.assign(new Error('function not implemented, uv_getrusage'), { code: 'ENOSYS' });
  });
  expect(peakMemoryMb()).toBeGreaterThan(10);
  usage.mockRestore();
});
