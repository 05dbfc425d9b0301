import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { fileSource } from '../../../src/seal/source.ts';

test('a pipe that nobody writes to, in the place of a sealed model, is refused at once', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'atoma-source-'));
  try {
    execFileSync('mkfifo', [join(dir, 'f')]);
    await expect(fileSource(join(dir, 'f'))).rejects.toMatchObject({ code: 'ERR_FILE_KIND', exitCode: 2 });
  } finally {
    rmSync(dir, { recursive: true });
  }
});
