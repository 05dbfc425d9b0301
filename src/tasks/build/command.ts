import { usageError } from '../../core/errors.ts';
import { COMMAND_ROOT, IMAGE_ROOT } from '../../core/layout.ts';
import type { CommandRuntime } from '../../core/measured-config.ts';
import type { Cache } from '../../image/cache.ts';
import type { TreeEntry } from '../../image/cpio.ts';
import type { InputOptions } from '../../image/inputs.ts';
import type { Lock } from '../../image/lock-file.ts';
import { sharedBase } from '../../image/ramdisks.ts';
import type { TreeFile } from '../../image/tree.ts';
import { type ImageConfig, provideContainer, resolveUser } from '../../oci/index.ts';
import type { Project } from '../../project/load.ts';
import { CommandTree } from './command-tree.ts';
import { includeFiles } from './include.ts';

export interface CommandRoot {
  /** The command's file system, with paths of the whole ramdisk. */
  entries: TreeEntry[];
  runtime: CommandRuntime;
  /** What of the container image was left out, a line each. */
  notes: string[];
}

const PREFIX = `${IMAGE_ROOT}/${COMMAND_ROOT}`;
const DEFAULTS = { port: 8080, model: '/model', startTimeout: 60 };
/** As Docker has it where an image sets none. */
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Of a command without a container image. */
const NOBODY = '65534:65534';

/**
 * The root file system of a command and how it is started: the container image's files under rootfs/image, or, without
 * an image, the base's own (Node and its libraries, as hard links: no second copy), then what the project includes.
 * Entrypoint and Cmd, Env, WorkingDir and User are the image's unless enclave.toml says otherwise.
 *
 * Throws `ERR_OCI_*`, `ERR_IMAGE_COMMAND`, `ERR_IMAGE_MOUNT_POINT`, `ERR_IMAGE_WORKDIR`,
 * `ERR_CONFIG_VALUE` (exit 2), `ERR_OCI_DIGEST` (exit 3).
 */
export async function commandRoot(
  project: Project,
  lock: Lock,
  files: TreeFile[],
  cache: Cache,
  options: InputOptions,
): Promise<CommandRoot> {
  const { runtime } = project.config;
  const [pin] = lock.oci;
  const image = pin === undefined ? null : await provideContainer(pin, cache, options);
  const tree = new CommandTree(PREFIX, image?.tree(PREFIX) ?? sharedBase(cache, files, PREFIX));
  const model = runtime.model ?? DEFAULTS.model;
  for (const include of runtime.include ?? []) {
    for (const entry of await includeFiles(project.dir, include, PREFIX, cache)) {
      requireVisible(entry.path.slice(PREFIX.length), model);
      tree.put(entry);
    }
  }
  const config = image?.config ?? null;
  const cwd = runtime.workdir ?? workingDirectory(config?.workingDir ?? '');
  mountPoints(tree, model);
  tree.ensure('/run', 0o755);
  tree.ensure('/tmp', 0o1777);
  tree.ensure(cwd, 0o755);
  const user = runtime.user ?? (image === null ? NOBODY : (config?.user ?? ''));
  const port = runtime.port ?? DEFAULTS.port;
  return {
    entries: tree.entries(),
    notes: image?.notes ?? [],
    runtime: {
      kind: 'command',
      argv: commandLine(runtime.command, config),
      env: environment(config?.env ?? [], runtime.env ?? {}, { PORT: String(port), ATOMA_MODEL: model }),
      cwd,
      user: await resolveUser(user, image?.flat ?? null, cache),
      model,
      port,
      ready: runtime.ready ?? null,
      startTimeout: runtime.start_timeout ?? DEFAULTS.startTimeout,
    },
  };
}

/** Entrypoint and Cmd one after the other, as every container runtime has it; enclave.toml's command replaces both. */
function commandLine(own: string[] | undefined, config: ImageConfig | null): string[] {
  const argv = own ?? [...(config?.entrypoint ?? []), ...(config?.cmd ?? [])];
  if (argv.length > 0 && argv[0] !== '') return argv;
  throw usageError('ERR_IMAGE_COMMAND', 'expected an Entrypoint or Cmd in the container image, found neither', {
    hint: 'set runtime.command in enclave.toml',
  });
}

/** Later ones win; what the agent tells the program is only a default. */
function environment(image: string[], own: Record<string, string>, told: Record<string, string>): string[] {
  const all = new Map<string, string>();
  const lines = (values: Record<string, string>) => Object.entries(values).map(([name, value]) => `${name}=${value}`);
  for (const line of [PATH, ...lines(told), ...image, ...lines(own)]) {
    const at = line.indexOf('=');
    // Docker keeps a variable without "=" out as well.
    if (at > 0) all.set(line.slice(0, at), line);
  }
  return [...all.values()];
}

const mountedOn = (model: string): string[] => ['/dev', '/proc', '/sys', model.replace(/\/+$/, '')];

/** An included file that the command would not see was meant to be somewhere else. Throws `ERR_IMAGE_MOUNT_POINT`. */
function requireVisible(path: string, model: string): void {
  const mount = mountedOn(model).find((at) => path.startsWith(`${at}/`));
  if (mount === undefined) return;
  throw usageError(
    'ERR_IMAGE_MOUNT_POINT',
    `the included file ${path} would not be seen: the enclave mounts something else on ${mount}`,
    { hint: 'give runtime.include another "to"; the model needs no include: it is mounted on runtime.model' },
  );
}

/** WorkingDir of a container image; runtimes refuse one that depends on where they stand. */
function workingDirectory(path: string): string {
  if (path === '' || path.startsWith('/')) return path || '/';
  throw usageError(
    'ERR_IMAGE_WORKDIR',
    `expected the WorkingDir of the container image to be an absolute path, found ${JSON.stringify(path.slice(0, 200))}`,
    { hint: 'set runtime.workdir in enclave.toml' },
  );
}

/** What the init and the agent mount on: always real directories, so that nothing is mounted through a link. */
function mountPoints(tree: CommandTree, model: string): void {
  for (const path of mountedOn(model)) {
    tree.makeDirectory(path, 'a mount point');
    // It would be covered, and cost memory.
    tree.empty(path);
  }
}
