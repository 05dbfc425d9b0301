import { join, resolve } from 'node:path';
import { AtomaError, usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import { readOwnerPublicKey } from '../keys/keys.ts';
import { parseConfig } from './config.ts';
import type { ProjectConfig } from './schema.ts';

export const CONFIG_FILE = 'enclave.toml';
export const LOCK_FILE = 'atoma-tee.lock';

/** A directory with an enclave.toml, loaded: paths are absolute, the owner's key is read. */
export interface Project {
  dir: string;
  name: string;
  version: string;
  policyVersion: string;
  /** enclave.toml with its defaults; paths as written. */
  config: ProjectConfig;
  lockPath: string;
  model: {
    /** File or directory. */
    path: string;
    /** The owner's raw Ed25519 public key, 32 bytes. */
    owner: Buffer;
  };
}

/**
 * Loads a project. The model is not looked at.
 * Throws `ERR_CONFIG_NOT_FOUND`, `ERR_CONFIG_*` (see parseConfig) and the key errors of readOwnerPublicKey, all exit 2.
 */
export async function loadProject(dir: string): Promise<Project> {
  const absolute = resolve(dir);
  const config = await loadConfig(dir);
  const owner = readOwnerPublicKey(await readSmallFile(resolve(absolute, config.model.owner), 'owner key'));
  return {
    dir: absolute,
    name: config.name,
    version: config.version,
    policyVersion: config.policy_version ?? config.version,
    config,
    lockPath: join(absolute, LOCK_FILE),
    model: { path: resolve(absolute, config.model.path), owner: owner.raw },
  };
}

/** enclave.toml alone, with its defaults. Throws as loadProject does, but for the key. */
export const loadConfig = async (dir: string): Promise<ProjectConfig> =>
  parseConfig(await readConfig(resolve(dir), dir), CONFIG_FILE);

async function readConfig(absolute: string, shown: string): Promise<string> {
  try {
    const bytes = await readSmallFile(join(absolute, CONFIG_FILE), 'project file');
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof AtomaError && error.code === 'ERR_FILE_NOT_FOUND') {
      throw usageError('ERR_CONFIG_NOT_FOUND', `expected a project in ${shown}, found no ${CONFIG_FILE}`, {
        hint: 'give the directory that holds enclave.toml',
      });
    }
    if (error instanceof TypeError) throw usageError('ERR_CONFIG_SYNTAX', `${CONFIG_FILE} is not UTF-8 text`);
    throw error;
  }
}
