import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { describe } from '../cli/describe.ts';
import { layoutTable } from '../cli/layout.ts';
import type { ShownArea } from '../tasks/inspect-gramine.ts';

export default class Inspect extends BaseCommand {
  static override summary = 'Describe any artifact without trusting it.';
  static override description = 'Says what a file claims, not whether it is true: that is `verify`.';
  static override examples = [
    '<%= config.bin %> inspect dist/digits.eif',
    '<%= config.bin %> inspect dist/digits.eif --nitro-cli',
    '<%= config.bin %> inspect model.sealed --key recovery.key --json',
    '<%= config.bin %> inspect app.manifest.sgx --libpal libpal.so --layout',
  ];
  static override args = {
    file: Args.string({
      required: true,
      description: 'EIF, Gramine manifest or SIGSTRUCT, sealed model, evidence, receipt, build manifest or signature',
    }),
  };
  static override flags = {
    key: Flags.string({ helpValue: 'FILE', description: 'recovery key: also list the files of a sealed model' }),
    libpal: Flags.string({
      helpValue: 'FILE',
      description: 'libpal.so, for the MRENCLAVE of a signed Gramine manifest [default: of NAME.gramine]',
    }),
    layout: Flags.boolean({
      description:
        'the areas of an SGX enclave in the order in which they are measured, each with a digest (Gramine manifests only)',
    }),
    'nitro-cli': Flags.boolean({
      description: 'print what `nitro-cli describe-eif` prints, for scripts that read it (EIF only)',
      exclusive: ['key', 'layout', 'libpal'],
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
    const { key, libpal, layout } = flags;
    const description = await inspect(args.file, { key, libpal, layout, onProgress: this.onProgress });
    if (this.jsonEnabled()) return description;
    const { areas, ...rest } = description;
    this.log(describe(rest));
    if (layout) this.log(layoutTable(areas as ShownArea[]));
    return description;
  }
}
