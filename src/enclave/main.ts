/** Entry of the enclave program: bundled into one file (scripts/build.ts), measured in every image. */
import { AtomaError } from '../core/errors.ts';
import { runEnclave } from './program.ts';

try {
  await runEnclave();
  process.exit(0);
} catch (error) {
  // The console of an enclave is the host's to read.
  console.error(error instanceof AtomaError ? `${error.code}: ${error.message}` : 'internal error');
  process.exit(error instanceof AtomaError ? error.exitCode : 1);
}
