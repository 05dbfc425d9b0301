/** Builds the kernel of a recipe in a process of its own, which ends as a command does: RECIPE.json CACHE. */
import { readFileSync } from 'node:fs';
import { Cache } from '../../../src/image/cache.ts';
import { parseFragment } from '../../../src/kernel/fragment.ts';
import { smallKernel } from '../../../src/kernel/small.ts';

const [recipe = '', cacheDir = ''] = process.argv.slice(2);
process.once('SIGTERM', () => process.exit(1));
const { source, fragment, variables } = JSON.parse(readFileSync(recipe, 'utf8'));
await smallKernel({
  cache: await Cache.open(cacheDir),
  recipe: { source, fragment: parseFragment(fragment), variables },
  onProgress: ({ phase, done }) => {
    if (phase.startsWith('compiling') && done > 0) console.log(phase);
  },
});
