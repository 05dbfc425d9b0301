import { rmSync } from 'node:fs';

const paths = new Set<string>();
let listening = false;

/**
 * Says that a file or directory must not outlive this process: it is removed when the process exits for any reason that
 * lets it (an interrupt, a thrown error; SIGKILL does not). Returns the way to take that back, for when the path has been
 * renamed to its place or removed.
 */
export function temporary(path: string): () => void {
  if (!listening) {
    listening = true;
    process.on('exit', () => {
      for (const left of paths) rmSync(left, { recursive: true, force: true });
    });
  }
  paths.add(path);
  return () => {
    paths.delete(path);
  };
}
