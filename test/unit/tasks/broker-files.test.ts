import { linkSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { generateKey } from '../../../src/keys/index.ts';
import { startBroker } from '../../../src/tasks/broker.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-broker-files-'));
afterAll(() => rmSync(dir, { recursive: true }));

test('one file for --state and --audit, also by two names: refused at the start, not at the first release', async () => {
  const at = (name: string) => join(dir, name);
  writeFileSync(at('broker.key'), generateKey('broker').privatePem);
  writeFileSync(at('b.db'), '', { mode: 0o600 });
  linkSync(at('b.db'), at('other.name'));
  const broker = { key: at('broker.key'), listen: '127.0.0.1:0', allowSimulated: [], state: at('b.db') };
  for (const audit of ['b.db', 'other.name']) {
    const error = { code: 'ERR_USAGE', message: expect.stringContaining('two files for --state and --audit') };
    await expect(startBroker({ ...broker, audit: at(audit) })).rejects.toMatchObject(error);
  }
  const server = await startBroker({ ...broker, audit: at('audit.jsonl') });
  await server.close();
});
