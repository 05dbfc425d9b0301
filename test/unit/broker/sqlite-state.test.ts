import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, describe, expect, test } from 'vitest';
import type { ReleaseEntry } from '../../../src/broker/audit.ts';
import { AuditFile, findBrokenLink, MemoryState, openSqliteState, requestRelease } from '../../../src/broker/index.ts';
import { model, newAttester, newBroker, newOwner, seal } from './fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-state-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
let number = 0;
const fresh = (name: string) => join(dir, `${number++}-${name}`);
const brokerKeyId = Buffer.alloc(16, 1);
const code = (c: string, exitCode = 2) => expect.objectContaining({ code: c, exitCode });
const owner = newOwner();
const entry = (n: number): ReleaseEntry => ({
  event: 'release',
  time: new Date(n).toISOString(),
  broker: brokerKeyId.toString('hex'),
  owner: 'aa',
  sealId: 'bb',
  epoch: 1,
  headerDigest: 'cc',
  share: 1,
  tee: 'simulated',
  simulated: true,
  measurement: {},
  nonce: 'dd',
  evidence: 'ee',
});
const release = (nonce: Uint8Array, epoch = 1, sealId = Buffer.alloc(16, 2)) => ({
  nonce,
  owner: owner.raw,
  sealId,
  epoch,
  entry: entry(epoch),
});
const auditOf = (path: string) => {
  const database = new DatabaseSync(path, { readOnly: true });
  const lines = database.prepare('SELECT line FROM audit ORDER BY line_index').all();
  database.close();
  return lines.map(({ line }) => String(line));
};

/** The same promises, kept in memory and on disk. */
describe.each([
  ['memory', async (limits: object) => new MemoryState(limits)],
  ['SQLite', async (limits: object) => openSqliteState(fresh('state.db'), { brokerKeyId, ...limits })],
])('state in %s', (_, open) => {
  test('nonces: unknown, fresh, used once, expired', async () => {
    const state = await open({});
    const [a, b] = [randomBytes(32), randomBytes(32)];
    expect(await state.nonceStatus(a, 100)).toBe('unknown');
    await state.issue(a, 160, 100);
    await state.issue(b, 160, 100);
    expect(await state.nonceStatus(a, 160)).toBe('fresh');
    expect(await state.nonceStatus(a, 161)).toBe('expired');
    expect(await state.commit(release(a), 161)).toBe('nonce');
    expect(await state.commit(release(a), 120)).toBe('done');
    expect(await state.nonceStatus(a, 120)).toBe('used');
    expect(await state.commit(release(a), 120)).toBe('nonce');
    expect(await state.commit(release(randomBytes(32)), 120)).toBe('nonce');
    expect(await state.commit(release(b), 120)).toBe('done');
  });

  test('epochs never fall; a commit that is refused consumes no nonce', async () => {
    const state = await open({});
    const nonces = Array.from({ length: 4 }, () => randomBytes(32)) as [Buffer, Buffer, Buffer, Buffer];
    for (const nonce of nonces) await state.issue(nonce, 160, 100);
    const sealId = Buffer.alloc(16, 3);
    expect(await state.commit(release(nonces[0], 4, sealId), 100)).toBe('done');
    expect(await state.commit(release(nonces[1], 3, sealId), 100)).toBe('epoch');
    expect(await state.nonceStatus(nonces[1], 100)).toBe('fresh');
    expect(await state.commit(release(nonces[1], 4, sealId), 100)).toBe('done');
    const { event: _e, ...common } = entry(1);
    const advance = (epoch: number) =>
      state.advance({ owner: owner.raw, sealId, epoch, entry: { ...common, event: 'advance' } });
    expect(await advance(3)).toEqual({ previous: 4, epoch: 4 });
    expect(await advance(6)).toEqual({ previous: 4, epoch: 6 });
    expect(await state.epoch(owner.raw, sealId)).toBe(6);
    expect(await state.epoch(newOwner().raw, sealId)).toBe(0);
    expect(await state.epoch(owner.raw, Buffer.alloc(16))).toBe(0);
  });

  test('a flood of challenges: the newest are kept, and no more than the limit', async () => {
    const state = await open({ mostNonces: 50 });
    const nonces = Array.from({ length: 120 }, () => randomBytes(32));
    for (const nonce of nonces) await state.issue(nonce, 160, 100);
    const statuses = await Promise.all(nonces.map((nonce) => state.nonceStatus(nonce, 100)));
    expect(statuses.lastIndexOf('unknown')).toBe(69);
    expect(statuses.filter((status) => status === 'fresh')).toHaveLength(50);
  });

  test('seals without end: full, for new ones only', async () => {
    const state = await open({ mostEpochs: 1 });
    const nonces = Array.from({ length: 3 }, () => randomBytes(32)) as [Buffer, Buffer, Buffer];
    for (const nonce of nonces) await state.issue(nonce, 160, 100);
    expect(await state.commit(release(nonces[0], 2), 100)).toBe('done');
    expect(await state.commit(release(nonces[1], 2, Buffer.alloc(16, 9)), 100)).toBe('full');
    expect(await state.nonceStatus(nonces[1], 100)).toBe('fresh');
    expect(await state.commit(release(nonces[1], 1, Buffer.alloc(16, 9)), 100)).toBe('done');
    expect(await state.commit(release(nonces[2], 3), 100)).toBe('done');
  });
});

describe('a state file', () => {
  test('survives a restart: epochs, outstanding nonces, used nonces, the audit log', async () => {
    const path = fresh('state.db');
    const [a, b] = [randomBytes(32), randomBytes(32)];
    const first = await openSqliteState(path, { brokerKeyId });
    await first.issue(a, 160, 100);
    await first.issue(b, 160, 100);
    expect(await first.commit(release(a, 7), 100)).toBe('done');
    first.close();
    const second = await openSqliteState(path, { brokerKeyId });
    expect(await second.nonceStatus(a, 100)).toBe('used');
    expect(await second.epoch(owner.raw, Buffer.alloc(16, 2))).toBe(7);
    expect(await second.commit(release(b, 6), 100)).toBe('epoch');
    expect(await second.commit(release(b, 7), 100)).toBe('done');
    second.close();
    const lines = auditOf(path);
    expect(lines).toHaveLength(2);
    expect(findBrokenLink(lines)).toBe(-1);
  });

  test('SIGKILL right after a release: it is remembered', async () => {
    const path = fresh('state.db');
    const script = `
      import { openSqliteState } from ${JSON.stringify(new URL('../../../src/broker/index.ts', import.meta.url).href)};
      const state = await openSqliteState(${JSON.stringify(path)}, { brokerKeyId: Buffer.alloc(16, 1) });
      const nonce = Buffer.alloc(32, 5);
      await state.issue(nonce, 160, 100);
      const release = { nonce, owner: Buffer.alloc(32, 6), sealId: Buffer.alloc(16, 7), epoch: 8, entry: { event: 'release' } };
      console.log(await state.commit(release, 100));
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const said = await new Promise<string>((resolve) => child.stdout.once('data', (data) => resolve(String(data))));
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
    expect(said).toBe('done\n');
    const state = await openSqliteState(path, { brokerKeyId });
    expect(await state.nonceStatus(Buffer.alloc(32, 5), 100)).toBe('used');
    expect(await state.epoch(Buffer.alloc(32, 6), Buffer.alloc(16, 7))).toBe(8);
    state.close();
  });

  test('two connections to one file: a nonce is used once, no release is lost, the log is one chain', async () => {
    const path = fresh('state.db');
    const both = await Promise.all([1, 2].map(() => openSqliteState(path, { brokerKeyId })));
    const [a, b] = both as [(typeof both)[0], (typeof both)[0]];
    const nonces = Array.from({ length: 20 }, () => randomBytes(32));
    for (const nonce of nonces) await a.issue(nonce, 160, 100);
    const outcomes = await Promise.all(
      nonces.flatMap((nonce) => [b, a].map((state) => state.commit(release(nonce), 100))),
    );
    expect(outcomes.filter((outcome) => outcome === 'done')).toHaveLength(20);
    expect(await b.commit(release(await issued(b), 9), 100)).toBe('done');
    expect(await a.commit(release(await issued(a), 8), 100)).toBe('epoch');
    a.close();
    b.close();
    expect(auditOf(path)).toHaveLength(21);
    expect(findBrokenLink(auditOf(path))).toBe(-1);
    async function issued(state: typeof a): Promise<Buffer> {
      const nonce = randomBytes(32);
      await state.issue(nonce, 160, 100);
      return nonce;
    }
  });

  test('is readable by nobody else, its journals included', async () => {
    const path = fresh('state.db');
    const mask = process.umask(0o000);
    try {
      const state = await openSqliteState(path, { brokerKeyId });
      await state.issue(randomBytes(32), 160, 100);
      const name = path.slice(dir.length + 1);
      const files = readdirSync(dir).filter((entry) => entry.startsWith(name));
      expect(files.length).toBe(3);
      for (const file of files) expect(statSync(join(dir, file)).mode & 0o777).toBe(0o600);
      state.close();
    } finally {
      process.umask(mask);
    }
    chmodSync(path, 0o640);
    await expect(openSqliteState(path, { brokerKeyId })).rejects.toThrow(code('ERR_BROKER_STATE'));
  });

  test('of another broker key, of another program, of another version, of no program, damaged: refused', async () => {
    const path = fresh('state.db');
    (await openSqliteState(path, { brokerKeyId })).close();
    await expect(openSqliteState(path, { brokerKeyId: Buffer.alloc(16, 2) })).rejects.toThrow(code('ERR_BROKER_STATE'));

    const make = (name: string, sql: string) => {
      const other = fresh(name);
      const database = new DatabaseSync(other);
      database.exec(sql);
      database.close();
      chmodSync(other, 0o600);
      return other;
    };
    const another = make('another.db', 'CREATE TABLE t (a)');
    const newer = make('newer.db', 'CREATE TABLE t (a); PRAGMA application_id = 0x41544252; PRAGMA user_version = 2');
    const text = fresh('text');
    writeFileSync(text, 'not a database, but long enough to be taken for one'.repeat(100), { mode: 0o600 });
    const damaged = fresh('damaged.db');
    const bytes = readFileSync(path);
    bytes.fill(0xff, 4096, 8192);
    writeFileSync(damaged, bytes, { mode: 0o600 });
    for (const wrong of [another, newer, text, damaged, dir]) {
      await expect(openSqliteState(wrong, { brokerKeyId })).rejects.toThrow(/./);
      await expect(openSqliteState(wrong, { brokerKeyId })).rejects.toMatchObject({ exitCode: 2 });
    }
  });

  test('an audit log that cannot be written: nothing is released, no nonce consumed', async () => {
    let broken = true;
    const audit = {
      append() {
        if (broken) throw new Error('no space left');
      },
    };
    for (const state of [
      await openSqliteState(fresh('state.db'), { brokerKeyId, audit }),
      new MemoryState({ audit }),
    ]) {
      broken = true;
      const nonce = randomBytes(32);
      await state.issue(nonce, 160, 100);
      await expect(state.commit(release(nonce, 3), 100)).rejects.toThrow('no space left');
      expect(await state.nonceStatus(nonce, 100)).toBe('fresh');
      expect(await state.epoch(owner.raw, Buffer.alloc(16, 2))).toBe(0);
      broken = false;
      expect(await state.commit(release(nonce, 3), 100)).toBe('done');
    }
  });

  test('of a broker: an old header is refused after a restart', async () => {
    const path = fresh('state.db');
    const world = newBroker();
    const open = () => openSqliteState(path, { brokerKeyId: world.broker.keyId });
    const sealId = randomBytes(16);
    const [one, two] = [
      await seal(owner, [world.key], { sealId }),
      await seal(owner, [world.key], { sealId, epoch: 2 }),
    ];
    const state = await open();
    await newBroker({ ...world.key, state }).broker.advance(two.parsed.bytes);
    state.close();
    const again = await open();
    const { post } = newBroker({ ...world.key, state: again });
    const ask = ({ parsed }: typeof one) =>
      requestRelease({
        brokers: [post],
        attester: newAttester(),
        tee: 'simulated',
        header: parsed,
        measured: { owner: owner.raw, project: 'digits', model },
      });
    await expect(ask(one)).rejects.toMatchObject({ code: 'ERR_RELEASE_EPOCH' });
    expect(await ask(two)).toEqual(two.contentKey);
    again.close();
  });
});

describe('an audit file', () => {
  const id = brokerKeyId.toString('hex');
  const lines = (path: string) => readFileSync(path, 'utf8').split('\n').slice(0, -1);

  test('goes on where it ended, and is one chain, 0600', () => {
    const path = fresh('audit');
    for (let run = 0; run < 3; run++) {
      const audit = new AuditFile(path, id);
      audit.append(entry(run));
      const { time, broker, owner, sealId, epoch, headerDigest } = entry(run);
      audit.append({ event: 'advance', time, broker, owner, sealId, epoch, headerDigest, before: 1 });
      audit.close();
    }
    expect(lines(path)).toHaveLength(6);
    expect(findBrokenLink(lines(path))).toBe(-1);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('opened twice, under one state: one chain', () => {
    const path = fresh('audit');
    const [a, b] = [new AuditFile(path, id), new AuditFile(path, id)];
    for (let i = 0; i < 5; i++) for (const audit of [a, b, b]) audit.append(entry(i));
    expect(lines(path)).toHaveLength(15);
    expect(findBrokenLink(lines(path))).toBe(-1);
    a.close();
    b.close();
  });

  test('half a line, left by a crash, is taken away', () => {
    const path = fresh('audit');
    const before = new AuditFile(path, id);
    before.append(entry(1));
    before.close();
    appendFileSync(path, '{"index":1,"prev');
    const audit = new AuditFile(path, id);
    expect(audit.repaired).toBe(true);
    audit.append(entry(2));
    audit.close();
    expect(lines(path)).toHaveLength(2);
    expect(findBrokenLink(lines(path))).toBe(-1);
  });

  test('a changed line, a line taken out, another broker’s log, a text: refused', () => {
    const path = fresh('audit');
    const audit = new AuditFile(path, id);
    for (let i = 0; i < 3; i++) audit.append(entry(i));
    audit.close();
    const good = lines(path);
    for (const changed of [
      good.toSpliced(1, 1),
      good.map((line) => line.replace('"share":1', '"share":2')),
      [...good, 'not JSON'],
      ['x'.repeat(1 << 20)],
    ]) {
      const other = fresh('changed');
      writeFileSync(other, changed.map((line) => `${line}\n`).join(''));
      expect(() => new AuditFile(other, id)).toThrow(code('ERR_BROKER_AUDIT', 3));
    }
    expect(() => new AuditFile(path, 'ff'.repeat(16))).toThrow(code('ERR_BROKER_AUDIT', 3));
    expect(lines(path)).toEqual(good);
  });

  test('that somebody cuts or writes to while the broker runs: nothing more is released', () => {
    const path = fresh('audit');
    const audit = new AuditFile(path, id);
    audit.append(entry(1));
    appendFileSync(path, 'something\n');
    expect(() => audit.append(entry(2))).toThrow(code('ERR_BROKER_AUDIT', 3));
    writeFileSync(path, '');
    expect(() => audit.append(entry(2))).toThrow(code('ERR_BROKER_AUDIT', 3));
    audit.close();
  });
});
