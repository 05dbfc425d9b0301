import { chownSync, writeFileSync } from 'node:fs';
import { missingError } from '../core/errors.ts';
import { sendGo } from '../launch/image-feed.ts';
import { isHostRoot, UNPRIVILEGED } from '../launch/namespaces.ts';
import { createRuntimeDirectory } from '../launch/runtime-directory.ts';
import { startStage } from '../launch/stage-process.ts';
import { withReadableToolkit } from '../launch/toolkit.ts';
import { type Outcome, ok } from './finding.ts';

const LIMIT_MS = 20_000;

/**
 * The simulated TEE's own launch with an image of nothing: namespaces, mounts, the turn away from the host's file system,
 * the system-call filter. It ends where the image's /init would begin. Outside of those namespaces only a directory of
 * its own in /tmp comes and goes. Throws `ERR_NAMESPACES` as `run` does, or whatever stopped it.
 */
export async function probeNamespaces(): Promise<Outcome> {
  const owner = isHostRoot() ? UNPRIVILEGED : undefined;
  const runtime = createRuntimeDirectory(owner);
  try {
    // The stage binds the path of its socket; nobody listens here, so a file will do.
    writeFileSync(runtime.socket, '');
    if (owner !== undefined) chownSync(runtime.socket, owner, owner);
    const toolkit = withReadableToolkit(runtime.path, owner);
    const stage = startStage({ root: runtime.root, socket: runtime.socket, hostname: 'doctor' }, toolkit);
    const ended = new Promise<void>((resolve) => stage.child.once('close', () => resolve()));
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(missingError('ERR_NAMESPACES', `making namespaces took more than ${LIMIT_MS / 1000} s`)),
      LIMIT_MS,
    );
    try {
      for (const output of stage.output) output.resume();
      await sendGo(stage.input).catch(() => {});
      await Promise.race([stage.running, late.promise]);
    } finally {
      clearTimeout(timer);
      stage.child.kill('SIGKILL');
      await ended;
    }
  } finally {
    runtime.remove();
  }
  return ok(`user, mount, pid, net, ipc, uts and cgroup${owner === undefined ? '' : ', root given up first'}`);
}
