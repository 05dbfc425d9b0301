import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { size, table } from '../../cli/table.ts';

export default class NitroKernel extends BaseCommand {
  static override summary = "Build the small, reproducible kernel of Nitro images from Debian's sources.";
  static override description =
    'Takes about five minutes, once: the kernel stays in the cache, under the digest of everything that it is built from. Needs a compiler, and says which packages are missing. The same sources, configuration and compiler give the same bytes on every machine.';
  static override examples = [
    '<%= config.bin %> nitro kernel',
    '<%= config.bin %> nitro kernel --out bzImage --json',
    '<%= config.bin %> nitro kernel --print-digest',
  ];
  static override flags = {
    out: Flags.string({ helpValue: 'FILE', description: 'also write the kernel (a bzImage) here' }),
    jobs: Flags.integer({
      min: 1,
      max: 1024,
      helpValue: 'N',
      description: 'compile N files at a time (default: one per processor)',
    }),
    'print-digest': Flags.boolean({
      exclusive: ['out', 'jobs', 'offline'],
      description: 'only print the digest of what it would be built from here; build nothing',
    }),
    offline: Flags.boolean({ description: 'take the source from the cache only' }),
  };

  async run() {
    const { flags } = await this.parse(NitroKernel);
    const { nitroKernel, nitroKernelDigest } = await import('../../tasks/kernel.ts');
    if (flags['print-digest']) {
      const digest = await nitroKernelDigest();
      this.log(digest.inputDigest);
      return digest;
    }
    const { out, jobs, offline } = flags;
    const result = await nitroKernel({ out, jobs, offline, onProgress: this.onProgress });
    this.log(`${result.cached ? 'already built' : 'built'} ${result.path} (${size(result.size)})`);
    this.log(
      table([
        ['version', result.version],
        ['sha256', result.sha256],
        ['inputs', result.inputDigest],
        ['config', result.config],
      ]),
    );
    return result;
  }
}
