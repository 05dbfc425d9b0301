/** Builds the small kernel in a process of its own: CACHE JOBS. */
import { nitroKernel } from '../../src/tasks/kernel.ts';

const [cacheDir = '', jobs = '1'] = process.argv.slice(2);
const { path, sha256, inputDigest, cached } = await nitroKernel({ cacheDir, jobs: Number(jobs) });
console.log(JSON.stringify({ path, sha256, inputDigest, cached }));
