import { stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import { fromBase64 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import { askHelper } from './credentials-helper.ts';
import { shown } from './json.ts';
import { credentialKeys, type RegistryName } from './registry-names.ts';

/** What a registry knows a user by. Secret. */
export type Credentials =
  | { kind: 'password'; username: string; password: string }
  /** Is exchanged for an access token. */
  | { kind: 'refresh'; token: string }
  /** Is sent as it is. */
  | { kind: 'access'; token: string };

const MAX_FILE = 4 << 20;

const entry = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
  registrytoken: z.string().optional(),
});
// Docker's config.json and containers-auth.json(5), which is a part of it.
const schema = z.object({
  auths: z.record(z.string(), entry).nullish(),
  credHelpers: z.record(z.string(), z.string()).nullish(),
  credsStore: z.string().nullish(),
});
type Config = z.infer<typeof schema>;

/**
 * Looks for a user's credentials for a registry, in the order of containers-auth.json(5): $REGISTRY_AUTH_FILE,
 * $XDG_RUNTIME_DIR/containers/auth.json, $XDG_CONFIG_HOME/containers/auth.json, $DOCKER_CONFIG/config.json (or ~/.docker). The
 * first file that has any is right. Null: none. Throws `ERR_OCI_CREDENTIALS` (exit 2 for a file, 5 for a helper).
 */
export async function findCredentials(name: RegistryName, env: NodeJS.ProcessEnv): Promise<Credentials | null> {
  for (const { path, named } of files(env)) {
    const config = await readConfig(path, named);
    const found = config === null ? null : await look(config, path, name, env);
    if (found !== null) return found;
  }
  return null;
}

function files(env: NodeJS.ProcessEnv): { path: string; named: boolean }[] {
  const home = env.HOME || homedir();
  return [
    { path: env.REGISTRY_AUTH_FILE, named: true },
    { path: env.XDG_RUNTIME_DIR && join(env.XDG_RUNTIME_DIR, 'containers/auth.json'), named: false },
    { path: join(env.XDG_CONFIG_HOME || join(home, '.config'), 'containers/auth.json'), named: false },
    { path: join(env.DOCKER_CONFIG || join(home, '.docker'), 'config.json'), named: false },
  ].flatMap(({ path, named }) => (path ? [{ path, named }] : []));
}

async function readConfig(path: string, named: boolean): Promise<Config | null> {
  if (!named && !(await stat(path).catch(() => null))?.isFile()) return null;
  const bytes = await readSmallFile(path, "file of registries' credentials", MAX_FILE);
  try {
    return schema.parse(JSON.parse(bytes.toString('utf8')));
  } catch {
    // What is wrong with it might show what is in it.
    throw broken(path, 'it is not JSON of the known form');
  }
}

async function look(
  config: Config,
  path: string,
  name: RegistryName,
  env: NodeJS.ProcessEnv,
): Promise<Credentials | null> {
  const keys = credentialKeys(name.registry);
  const [server = name.registry] = keys;
  const own = keys.map((key) => field(config.credHelpers, key)).find((helper) => helper !== undefined);
  const helper = own ?? config.credsStore;
  if (helper) {
    const given = await askHelper(helper, server, env);
    if (given?.username === '<token>') return { kind: 'refresh', token: given.secret };
    if (given) return { kind: 'password', username: given.username, password: given.secret };
  }
  for (const key of [...narrowerKeys(name), ...keys]) {
    const found = field(config.auths, key);
    const credentials = found === undefined ? null : fromEntry(found, path, key);
    if (credentials !== null) return credentials;
  }
  return null;
}

/** Only what the file itself says: a key like "constructor" is no host. */
const field = <T>(record: Record<string, T> | null | undefined, key: string): T | undefined =>
  record && Object.hasOwn(record, key) ? record[key] : undefined;

/** containers-auth.json(5): a repository's or a namespace's credentials go before a registry's. */
function narrowerKeys({ registry, repository }: RegistryName): string[] {
  const parts = repository.split('/');
  return parts.map((_, i) => `${registry}/${parts.slice(0, parts.length - i).join('/')}`);
}

function fromEntry(found: z.infer<typeof entry>, path: string, key: string): Credentials | null {
  if (found.registrytoken) return { kind: 'access', token: found.registrytoken };
  if (found.identitytoken) return { kind: 'refresh', token: found.identitytoken };
  if (found.auth) {
    const text = fromBase64(found.auth)?.toString('utf8').replace(/\0+$/, '');
    const colon = text?.indexOf(':') ?? -1;
    if (text === undefined || colon < 1)
      throw broken(path, `auths."${shown(key)}".auth is not base64 of NAME:PASSWORD`);
    return { kind: 'password', username: text.slice(0, colon), password: text.slice(colon + 1) };
  }
  if (found.username && found.password !== undefined)
    return { kind: 'password', username: found.username, password: found.password };
  return null;
}

const broken = (path: string, why: string) =>
  usageError('ERR_OCI_CREDENTIALS', `the registries' credentials in ${path} cannot be read: ${why}`, {
    hint: 'log in again (docker login, skopeo login), or correct the file',
  });
