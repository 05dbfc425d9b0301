import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { temporary } from '../core/temporary.ts';

/** What a launch keeps on the host while it runs; for the simulated TEE an empty mount point and its one socket. */
export interface RuntimeDirectory {
  path: string;
  /** Where the stage mounts the enclave's tmpfs (in its own mount namespace: here it stays empty). */
  root: string;
  sockets: string;
  socket: string;
  remove(): void;
}

const PREFIX = 'atoma-tee-launch';
/** sockaddr_un has 108 bytes. */
const LONGEST_PARENT = 48;

/**
 * Makes one for `owner`, where that is another user, after removing what killed launchers of this user left.
 * The name holds the launcher's pid and start time, so a leftover is recognised without a file to read.
 */
export function createRuntimeDirectory(owner?: number): RuntimeDirectory {
  const { path, remove } = makeDirectory(owner !== undefined);
  const root = join(path, 'root');
  const sockets = join(path, 'sockets');
  for (const directory of [root, sockets]) mkdirSync(directory, { mode: 0o700 });
  // Whatever the umask: others may pass through, but not look.
  chmodSync(path, 0o711);
  if (owner !== undefined) {
    chownSync(root, owner, owner);
    // The owner may reach its socket, and no more: in a directory of somebody else's, root would chown what that one put there.
    chownSync(sockets, -1, owner);
    chmodSync(sockets, 0o710);
  }
  return {
    path,
    root,
    sockets,
    socket: join(sockets, 'host.sock'),
    remove,
  };
}

/** The same for a virtual machine: one directory (0700) for what it boots and the sockets to it. */
export const createPrivateDirectory = (): Pick<RuntimeDirectory, 'path' | 'remove'> => makeDirectory(false);

function makeDirectory(handedOver: boolean): Pick<RuntimeDirectory, 'path' | 'remove'> {
  const parent = isFit(tmpdir()) && isTrusted(tmpdir(), handedOver) ? tmpdir() : '/tmp';
  removeLeftovers(parent);
  const path = join(parent, `${PREFIX}.${process.pid}.${startTime(process.pid)}.${randomBytes(6).toString('hex')}`);
  mkdirSync(path, { mode: 0o700 });
  const keep = temporary(path);
  return {
    path,
    remove: () => {
      rmSync(path, { recursive: true, force: true });
      keep();
    },
  };
}

/** Short enough for sockets; without what separates QEMU's options. */
const isFit = (directory: string): boolean => directory.length <= LONGEST_PARENT && !directory.includes(',');

/**
 * True where nobody but root and this user can rename or replace what we make; and, where the launch is handed to another
 * user, where that one can get to it (root's TMPDIR is often root's alone).
 */
function isTrusted(directory: string, handedOver: boolean): boolean {
  try {
    const real = realpathSync(directory);
    const { uid, mode } = statSync(real);
    const ours = uid === 0 || uid === process.getuid?.();
    // Writable by others, but sticky: /tmp.
    const safe = (mode & 0o022) === 0 || (mode & 0o1000) !== 0;
    const open = !handedOver || (mode & 0o001) !== 0;
    return ours && safe && open && (real === '/' || isTrusted(dirname(real), handedOver));
  } catch {
    return false;
  }
}

function removeLeftovers(parent: string): void {
  for (const name of readdirSync(parent)) {
    const [prefix, pid, started, random] = name.split('.');
    if (prefix !== PREFIX || random === undefined || !/^[0-9]+$/.test(pid ?? '')) continue;
    if (startTime(Number(pid)) === started) continue;
    const path = join(parent, name);
    try {
      // In a shared /tmp anybody can make such a name; only our own are ours to remove.
      if (lstatSync(path).uid === process.getuid?.()) rmSync(path, { recursive: true, force: true });
    } catch {
      // Another launcher was faster.
    }
  }
}

/** Field 22 of /proc/PID/stat (proc_pid_stat(5)), counted after the command's closing parenthesis; null if no such process. */
function startTime(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}
