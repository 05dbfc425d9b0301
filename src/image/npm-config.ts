import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { askProgram } from '../core/ask-program.ts';
import { usageError } from '../core/errors.ts';

/** What pacote needs of npm's configuration. Values can be secrets (tokens): never print them. */
export type NpmOptions = Record<string, unknown>;

const cached = new Map<string, Promise<NpmOptions>>();

/** npm's own configuration for a directory: registry, scopes, proxy, certificates, credentials. */
export function npmOptions(dir: string): Promise<NpmOptions> {
  const known = cached.get(dir) ?? read(dir);
  cached.set(dir, known);
  return known;
}

async function read(dir: string): Promise<NpmOptions> {
  const config = await ask(dir);
  // npm lists every setting but those whose value holds a password: the default in its place would be another registry.
  if (Object.keys(config).length > 0 && typeof config.registry !== 'string') {
    throw usageError(
      'ERR_NPM_REGISTRY',
      "npm does not say which registry is set: that address holds a user's password",
      {
        hint: 'put the address without it into .npmrc, and the credentials on a line of their own: //HOST/:_authToken=... or //HOST/:_auth=...',
      },
    );
  }
  // `npm config list` leaves credentials out, so they come from the files that it names, in npm's order.
  const files = [config.globalconfig, config.userconfig, join(dir, '.npmrc')];
  const texts = await Promise.all(
    files.map((file) => (typeof file === 'string' ? readFile(file, 'utf8').catch(() => '') : '')),
  );
  const secrets = Object.assign({}, ...texts.map((text) => parseCredentials(text, process.env)));
  const cafile = typeof config.cafile === 'string' ? await readFile(config.cafile, 'utf8').catch(() => null) : null;
  const scopes = Object.entries(config).filter(([key]) => key.startsWith('@') && key.endsWith(':registry'));
  const options: NpmOptions = {
    registry: config.registry,
    cache: typeof config.cache === 'string' ? join(config.cache, '_cacache') : undefined,
    ca: cafile?.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? config.ca,
    cert: config.cert,
    key: config.key,
    proxy: config.proxy,
    httpsProxy: config['https-proxy'],
    noProxy: config.noproxy,
    strictSSL: config['strict-ssl'],
    ...Object.fromEntries(scopes),
    ...secrets,
  };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined && value !== null));
}

/** Without npm on the PATH, its defaults hold, and pacote knows those. */
async function ask(dir: string): Promise<Record<string, unknown>> {
  // npm derives its global configuration from the node that runs it: ours, when first on the PATH, is the wrong one.
  const ours = dirname(process.execPath);
  const PATH = (process.env.PATH ?? '').split(':').filter((entry) => entry !== ours);
  // It would keep a log of the question.
  const text = await askProgram('npm', ['config', 'list', '-l', '--json', '--logs-max=0'], {
    cwd: dir,
    env: { ...process.env, PATH: PATH.join(':') },
    timeout: 20_000,
  });
  if (text === null) return {};
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

/** Keys of the form //HOST/PATH/:KEY of an .npmrc, with ${VARIABLE} filled in as npm does. */
export function parseCredentials(text: string, env: NodeJS.ProcessEnv): Record<string, string> {
  const found: Record<string, string> = {};
  for (const line of text.split(/\r?\n/)) {
    const match = /^\s*(\/\/[^=\s]+:[A-Za-z_]+)\s*=\s*(.*?)\s*$/.exec(line);
    if (!match?.[1] || match[2] === undefined) continue;
    const value = match[2].replace(/^"(.*)"$/, '$1');
    found[match[1]] = value.replace(
      /\$\{([^}?]+)(\?)?\}/g,
      (whole, name, optional) => env[name] ?? (optional ? '' : whole),
    );
  }
  return found;
}
