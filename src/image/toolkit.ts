import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hex, sha256 } from '../core/bytes.ts';
import { AtomaError, missingError, negativeError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import { type Base, parseBase, type ToolkitPin } from './lock-file.ts';

/** The package's own directory: two up from here, in src and in dist alike. */
export const TOOLKIT_DIR = join(import.meta.dirname, '..', '..');
export const INIT_PATH = join(TOOLKIT_DIR, 'templates', 'nitro', 'init');
export const PROGRAM_PATH = join(TOOLKIT_DIR, 'dist', 'enclave', 'program.mjs');
const BASE_PATH = join(TOOLKIT_DIR, 'templates', 'base.lock.toml');

/** The toolkit's share of an image. */
export interface Toolkit {
  pin: ToolkitPin;
  init: Buffer;
  /** The enclave program, one file. */
  program: Buffer;
}

/** Throws `ERR_TOOLKIT_PROGRAM` (exit 5) where the enclave program has not been built: it is part of the package. */
export async function loadToolkit(programPath: string = PROGRAM_PATH): Promise<Toolkit> {
  const [init, program] = await Promise.all([readSmallFile(INIT_PATH, 'init'), readProgram(programPath)]);
  const pin = { version: await toolkitVersion(), init: hex(sha256(init)), program: hex(sha256(program)) };
  return { pin, init, program };
}

export async function toolkitVersion(): Promise<string> {
  return (JSON.parse(await readFile(join(TOOLKIT_DIR, 'package.json'), 'utf8')) as { version: string }).version;
}

/** The default base. */
export const loadBase = async (): Promise<Base> => parseBase(await readFile(BASE_PATH, 'utf8'), BASE_PATH);

/** Throws `ERR_LOCK_TOOLKIT` (exit 3) if the lock was made by a toolkit whose part of the image differs. */
export function requireToolkit(locked: ToolkitPin, { pin }: Toolkit): void {
  const part = (['init', 'program'] as const).find((name) => locked[name] !== pin[name]);
  if (part === undefined && locked.version === pin.version) return;
  const what = part === undefined ? '' : `, whose ${part === 'init' ? 'init' : 'enclave program'} differs`;
  throw negativeError(
    'ERR_LOCK_TOOLKIT',
    `the lock expects the parts of atoma-tee ${locked.version}, found atoma-tee ${pin.version}${what}`,
    {
      hint: `use atoma-tee ${locked.version} to keep the measurement, or run \`atoma-tee lock --toolkit\` to take this one, which changes it`,
      details: { expected: locked, found: pin },
    },
  );
}

async function readProgram(path: string): Promise<Buffer> {
  try {
    return await readSmallFile(path, 'enclave program', 64 << 20);
  } catch (error) {
    if (!(error instanceof AtomaError) || error.code !== 'ERR_FILE_NOT_FOUND') throw error;
    throw missingError('ERR_TOOLKIT_PROGRAM', `the enclave program is missing from this toolkit: no ${path}`, {
      hint: 'in a checkout, run `npm run build`; otherwise install the package again',
    });
  }
}
