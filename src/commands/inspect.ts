import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { describe } from '../cli/describe.ts';

export default class Inspect extends BaseCommand {
  static override summary = 'Describe any artifact without trusting it.';
  static override description = 'Says what a file claims, not whether it is true: that is `verify`.';
  static override examples = [
    '<%= config.bin %> inspect dist/digits.eif',
    '<%= config.bin %> inspect dist/digits.eif --nitro-cli',
    '<%= config.bin %> inspect model.sealed --key recovery.key --json',
  ];
  static override args = {
    file: Args.string({ required: true, description: 'EIF, sealed model, evidence, receipt or build manifest' }),
  };
  static override flags = {
    key: Flags.string({ helpValue: 'FILE', description: 'recovery key: also list the files of a sealed model' }),
    'nitro-cli': Flags.boolean({
      description: 'print what `nitro-cli describe-eif` prints, for scripts that read it (EIF only)',
      exclusive: ['key'],
    }),
  };

  async run() {
    const { args, flags } = await this.parse(Inspect);
    const { inspect, inspectAsNitroCli } = await import('../tasks/inspect.ts');
    if (flags['nitro-cli']) {
      const text = await inspectAsNitroCli(args.file, this.onProgress);
      this.log(text);
      return JSON.parse(text) as Record<string, unknown>;
    }
    const description = await inspect(args.file, { key: flags.key, onProgress: this.onProgress });
    this.log(describe(description));
    return description;
  }
}
