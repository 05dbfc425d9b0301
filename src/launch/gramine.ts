import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { createSimulatedAttester } from '../attest/simulated-attester.ts';
import type { SimulatedRoot } from '../attest/simulated-root.ts';
import { LAUNCHER_ADDRESS_VARIABLE } from '../core/layout.ts';
import { type BuiltGramineImage, readBuiltImage, requireRoot } from '../gramine/built-image.ts';
import { gramineNames, LIBPAL } from '../gramine/image-manifest.ts';
import { createConsole } from './console.ts';
import { type AnyLaunchOptions, cleanUp, type Enclave, serve } from './enclave.ts';
import { gramineBootError } from './gramine-failure.ts';
import { type FoundGramine, findGramine, type GramineWishes, gramineError } from './gramine-find.ts';
import { listenOnLoopback } from './listen.ts';
import { createPrivateDirectory } from './runtime-directory.ts';
import { stopwatch } from './stopwatch.ts';
import { spawnTied } from './tied.ts';

export interface GramineOptions extends AnyLaunchOptions, GramineWishes {
  /** Path of NAME.manifest.sgx; NAME.sig and NAME.gramine/ beside it. */
  manifest: string;
  /** Makes the simulated TEE's root, which vouches where no SGX does; not asked for otherwise. */
  root: () => Promise<SimulatedRoot>;
  /** Judges the image as it was measured before anything of it runs; throws to refuse it. */
  accept?: (image: BuiltGramineImage) => void;
  /** Told which Gramine is used, and what it is not. */
  onNote?: ((text: string) => void) | undefined;
}

/** Adding and measuring the pages of a big enclave takes its time, and Node starts in ten seconds there. */
const CONNECT_MS = 180_000;

/**
 * Runs a Gramine image: in an SGX enclave where this machine has SGX (gramine-sgx), else on the same Gramine without any TEE
 * (gramine-direct), where the simulated attester vouches. Before that the image is measured anew, and every file of it held
 * against the manifest. The build's directory is read, not written.
 *
 * Throws `ERR_GRAMINE_MISSING` (exit 5), what `readBuiltImage`, `requireRoot` and `accept` throw, what
 * `gramineBootError` makes of an early end, and whatever error the program inside reports.
 */
export async function launchGramine(options: GramineOptions): Promise<Enclave> {
  const gramine = findGramine(options);
  const { mode, version } = gramine;
  options.onNote?.(
    `Gramine ${version ?? '(unknown version)'}, gramine-${mode}${mode === 'sgx' ? '' : ': no SGX here, nothing is protected'}`,
  );
  const undo = cleanUp();
  try {
    const clock = stopwatch();
    const image = await readBuiltImage(options.manifest, options);
    options.accept?.(image);
    requireSameLibpal(gramine, image);
    await requireRoot(image, options);
    clock.lap('measure');
    const directory = createPrivateDirectory();
    undo.add(directory.remove);
    layOut(directory.path, image);
    const listener = await listenOnLoopback();
    undo.add(listener.close);
    const root = mode === 'direct' ? await options.root() : undefined;
    const { measurement, settings } = image;
    const attester = root && createSimulatedAttester(root, { ...measurement, debug: settings.debug });

    const child = spawnTied([gramine.program, image.name], {
      cwd: directory.path,
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', [LAUNCHER_ADDRESS_VARIABLE]: listener.address },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const console = createConsole(options.onLog);
    for (const output of [child.stdout, child.stderr]) console.listen(output as Readable);
    let status: number | null = null;
    const ended = new Promise<void>((done) => {
      child.once('error', () => done());
      child.once('close', (code) => {
        status = code;
        done();
      });
    });
    undo.add(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    const failure = (how: string, silent = false) => gramineBootError({ ...console.facts(), status }, how, { silent });
    const dead = ended.then(() => {
      throw failure('the enclave ended');
    });
    dead.catch(() => {});
    const timeoutMs = options.bootTimeoutMs ?? CONNECT_MS;
    const connected = listener.connection(timeoutMs, () =>
      failure(`the enclave's program did not connect within ${timeoutMs / 1000} s`, true),
    );
    const served = await serve({ connected, dead, attester }, options.host, undo, clock);
    return {
      ...served,
      launcher: { kind: 'gramine', mode, debug: settings.debug, ...(version === undefined ? {} : { version }) },
      measurement: root ? { tee: 'simulated', root: root.fingerprint, of: measurement } : measurement,
      exited: ended,
      stop: undo.run,
    };
  } catch (error) {
    await undo.run();
    throw error;
  }
}

/**
 * Where Gramine is started: the very bytes of manifest and signature that were measured, under the names that either of
 * its programs looks for, and the image's directory by the name that the manifest has for it.
 */
function layOut(directory: string, image: BuiltGramineImage): void {
  const names = gramineNames(image.name);
  writeFileSync(join(directory, names.manifest), image.manifest, { mode: 0o600 });
  writeFileSync(join(directory, `${image.name}.manifest`), image.manifest, { mode: 0o600 });
  writeFileSync(join(directory, names.sigstruct), image.sigstruct, { mode: 0o600 });
  symlinkSync(resolve(image.directory, names.directory), join(directory, names.directory));
}

/** gramine-sgx loads its own libpal.so, and the CPU would refuse a signature over another with an error that says nothing. */
function requireSameLibpal({ mode, libpal }: FoundGramine, image: BuiltGramineImage): void {
  if (mode !== 'sgx' || libpal === undefined) return;
  const own = readFileSync(join(image.directory, gramineNames(image.name).directory, LIBPAL));
  if (own.equals(readFileSync(libpal))) return;
  throw gramineError(
    `expected the libpal.so that the image measures, found another in the installed Gramine (${libpal})`,
    'build the image with gramine.from naming this installation, or install the Gramine that it was built with',
  );
}
