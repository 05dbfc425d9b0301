/** Launches an image and prints what came of it as one JSON line; a process of its own, to be run as other users and killed. */
import { createSimulatedRoot } from '../../../src/attest/simulated-root.ts';
import type { AtomaError } from '../../../src/core/errors.ts';
import { launchSimulated } from '../../../src/launch/simulated.ts';

const [eif = ''] = process.argv.slice(2);
const log: string[] = [];
try {
  await launchSimulated({
    eif,
    root: await createSimulatedRoot(),
    host: { model: eif, brokers: [] },
    onLog: (line) => {
      if (line === 'waiting') console.log(line);
      else log.push(line);
    },
  });
} catch (error) {
  const { code, exitCode, hint, message } = error as AtomaError;
  console.log(JSON.stringify({ code, exitCode, hint, message, log }));
}
