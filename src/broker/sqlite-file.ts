import { closeSync, constants, fstatSync, fsyncSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { equalBytes, hex } from '../core/bytes.ts';
import { AtomaError, usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';

/** SQLite's application id of our files: "ATBR". */
const APPLICATION = 0x41544252;
const VERSION = 1;
const BUSY_MS = 5000;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS broker (key_id BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS nonces (id INTEGER PRIMARY KEY AUTOINCREMENT, nonce BLOB NOT NULL UNIQUE, expires INTEGER NOT NULL, used INTEGER NOT NULL) STRICT;
  CREATE INDEX IF NOT EXISTS nonces_expires ON nonces (expires);
  CREATE TABLE IF NOT EXISTS epochs (owner BLOB, seal BLOB, epoch INTEGER NOT NULL, PRIMARY KEY (owner, seal)) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS audit (line_index INTEGER PRIMARY KEY, line TEXT NOT NULL) STRICT;
`;

/**
 * Opens or makes the database of a broker's state. Throws `ERR_BROKER_STATE` (exit 2) for a file that is no state, is another broker's,
 * is damaged, or that others may read.
 */
export async function openStateDatabase(path: string, brokerKeyId: Uint8Array): Promise<DatabaseSync> {
  const { DatabaseSync } = await import('node:sqlite');
  createFile(path);
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: BUSY_MS });
    prepare(database, path, brokerKeyId);
    return database;
  } catch (error) {
    database?.close();
    if (error instanceof AtomaError) throw error;
    const why = error instanceof Error ? error.message : 'unknown';
    throw stateError(`${path} cannot be used as a broker's state: ${why}`);
  }
}

/** SQLite would make it as readable as the umask says; its journals get the mode of the file. */
function createFile(path: string): void {
  try {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    const stat = fstatSync(fd);
    closeSync(fd);
    if (!stat.isFile()) throw stateError(`${path} is not a regular file`);
    if ((stat.mode & 0o077) !== 0)
      throw stateError(
        `${path}: expected a file that only its owner may read, found mode ${(stat.mode & 0o777).toString(8)}`,
      );
    const directory = openSync(dirname(path), constants.O_RDONLY);
    fsyncSync(directory);
    closeSync(directory);
  } catch (error) {
    throw ioError(error, `cannot use the state file ${path}`);
  }
}

function prepare(database: DatabaseSync, path: string, keyId: Uint8Array): void {
  database.exec('PRAGMA trusted_schema = OFF; PRAGMA synchronous = FULL');
  patiently(() => database.exec('PRAGMA journal_mode = WAL'));
  database.exec('BEGIN IMMEDIATE');
  try {
    const number = (name: string) => Number(database.prepare(`PRAGMA ${name}`).get()?.[name]);
    const [application, version] = [number('application_id'), number('user_version')];
    const empty = database.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.n === 0;
    if (!empty && application !== APPLICATION) throw stateError(`${path} is a database of another program`);
    if (!empty && version !== VERSION)
      throw stateError(`${path}: expected version ${VERSION} of a state, found ${version}`);
    database.exec(`${SCHEMA}; PRAGMA application_id = ${APPLICATION}; PRAGMA user_version = ${VERSION}`);
    const owner = database.prepare('SELECT key_id FROM broker').get()?.key_id;
    if (owner instanceof Uint8Array && !equalBytes(owner, keyId)) {
      throw stateError(`${path} is the state of another broker: expected key id ${hex(keyId)}, found ${hex(owner)}`);
    }
    if (owner === undefined) database.prepare('INSERT INTO broker VALUES (?)').run(keyId);
    database.exec('COMMIT');
  } catch (error) {
    database.exec('ROLLBACK');
    throw error;
  }
  const check = database.prepare('PRAGMA quick_check(1)').get()?.quick_check;
  if (check !== 'ok') throw stateError(`${path} is damaged: ${String(check)}`);
}

/** Two processes that start at once both want to turn the journal on, and SQLite does not wait for that by itself. */
function patiently(run: () => void): void {
  for (let left = BUSY_MS / 50; ; left--) {
    try {
      run();
      return;
    } catch (error) {
      if (left === 0 || !String(error).includes('locked')) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    }
  }
}

const stateError = (why: string) =>
  usageError('ERR_BROKER_STATE', why, { hint: 'give another --state FILE, or the key whose state it is' });
