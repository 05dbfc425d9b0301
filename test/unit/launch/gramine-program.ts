/** What `gramine-direct` runs in tests: the enclave program, on the image's root where Gramine would make it "/". */
import { AtomaError } from '../../../src/core/errors.ts';
import { runEnclave } from '../../../src/enclave/program.ts';

console.log(`environment: ${Object.keys(process.env).sort().join(' ')}`);
try {
  process.exit(await runEnclave(process.argv[2]));
} catch (error) {
  console.error(`atoma-tee: ${error instanceof AtomaError ? `${error.code}: ${error.message}` : error}`);
  process.exit(error instanceof AtomaError ? error.exitCode : 1);
}
