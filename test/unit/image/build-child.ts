/** Builds in a process of its own: PROJECT OUT CACHE PROGRAM [PHASE]. With PHASE it kills itself when that is reached. */
import { build } from '../../../src/tasks/build/index.ts';

const [project = '', out = '', cacheDir = '', programPath = '', killAt] = process.argv.slice(2);
try {
  await build({
    project,
    out,
    cacheDir,
    programPath,
    onProgress: ({ phase }) => {
      if (phase === killAt) process.kill(process.pid, 'SIGKILL');
    },
  });
} catch (error) {
  console.log((error as { code?: string }).code ?? String(error));
  process.exit(1);
}
