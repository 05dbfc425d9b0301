import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { AtomaError, usageError } from '../core/errors.ts';
import { ioError, readSmallFile } from '../core/files.ts';
import { stagingDirectory } from '../core/staging.ts';

export const ROOT_NAME = 'atoma-tee simulated root';

/** The local root of trust of the simulated TEE: worth nothing to anybody who did not name its fingerprint. */
export interface SimulatedRoot {
  /** DER. */
  certificate: Buffer;
  /** "sha256:" and the hex SHA-256 of the certificate. */
  fingerprint: string;
  /** P-384, private. */
  key: KeyObject;
}

/** Where the local root lies: $XDG_CONFIG_HOME/atoma-tee/simulated, by default under ~/.config. */
export function localRootDirectory(): string {
  const base = process.env.XDG_CONFIG_HOME;
  return join(base?.startsWith('/') ? base : join(homedir(), '.config'), 'atoma-tee', 'simulated');
}

/** A new root in memory; tests and `loadOrCreateLocalRoot` use it. */
export async function createSimulatedRoot(): Promise<SimulatedRoot> {
  const { parseCertificate } = await import('./certificate.ts');
  const { makeCertificate } = await import('./simulated-certificate.ts');
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const certificate = await makeCertificate(
    {
      subject: ROOT_NAME,
      issuer: ROOT_NAME,
      publicKey,
      // Trust in it comes from being named, not from time, and clocks of test machines are odd.
      notBefore: new Date('2000-01-01T00:00:00Z'),
      notAfter: new Date('2049-12-31T23:59:59Z'),
      ca: true,
      simulated: false,
    },
    privateKey,
  );
  return { certificate, fingerprint: parseCertificate(certificate, 'simulated root').fingerprint, key: privateKey };
}

/**
 * Reads the local root, making it on first use (directory 0700, key 0600). Two processes that start together get the
 * same one: whoever renames first wins. Throws `ERR_SIMULATED_ROOT` (exit 2) where the files are not a root.
 */
export async function loadOrCreateLocalRoot(dir = localRootDirectory()): Promise<SimulatedRoot> {
  const existing = await readRoot(dir);
  if (existing !== null) return existing;
  try {
    await mkdir(dirname(dir), { recursive: true, mode: 0o700 });
    const staging = await stagingDirectory(dir, 0o700);
    try {
      const root = await createSimulatedRoot();
      const pem = root.key.export({ type: 'pkcs8', format: 'pem' });
      await writeFile(join(staging.path, 'root.key'), pem, { mode: 0o600 });
      await writeFile(join(staging.path, 'root.der'), root.certificate, { mode: 0o644 });
      await rename(staging.path, dir);
      return root;
    } catch (error) {
      const other = await readRoot(dir);
      if (other !== null) return other;
      throw error;
    } finally {
      await staging.remove();
    }
  } catch (error) {
    throw ioError(error, `cannot make the local root of the simulated TEE in ${dir}`);
  }
}

/** The local root's fingerprint, or null where there is none yet. */
export const localRootFingerprint = async (dir = localRootDirectory()): Promise<string | null> =>
  (await readRoot(dir))?.fingerprint ?? null;

async function readRoot(dir: string): Promise<SimulatedRoot | null> {
  let certificate: Buffer;
  try {
    certificate = await readSmallFile(join(dir, 'root.der'), 'simulated root certificate', 4096);
  } catch (error) {
    if (error instanceof AtomaError && error.code === 'ERR_FILE_NOT_FOUND') return null;
    throw error;
  }
  const pem = await readSmallFile(join(dir, 'root.key'), 'simulated root key', 4096);
  const { parseCertificate } = await import('./certificate.ts');
  try {
    const parsed = parseCertificate(certificate, 'simulated root');
    const key = createPrivateKey(pem);
    if (!createPublicKey(key).equals(parsed.x509.publicKey))
      throw new Error('key and certificate do not belong together');
    return { certificate, fingerprint: parsed.fingerprint, key };
  } catch (cause) {
    throw usageError(
      'ERR_SIMULATED_ROOT',
      `expected the simulated TEE's root and its key in ${dir}, found something else`,
      {
        cause,
        hint: 'move that directory away; a new root is made, and what was sealed to the old one stays closed',
      },
    );
  }
}

/**
 * What `--allow-simulated` takes, as fingerprints: "local" is the local root (made on first use), anything else must be
 * "sha256:" and 64 hex digits (`ERR_USAGE`, exit 2).
 */
export async function resolveSimulatedRoots(names: string[], dir = localRootDirectory()): Promise<string[]> {
  return Promise.all(
    names.map(async (name) => {
      if (name === 'local') return (await loadOrCreateLocalRoot(dir)).fingerprint;
      if (/^sha256:[0-9a-f]{64}$/.test(name)) return name;
      throw usageError(
        'ERR_USAGE',
        `--allow-simulated: expected "local" or "sha256:" and 64 lower-case hex digits, found ${JSON.stringify(name)}`,
      );
    }),
  );
}
