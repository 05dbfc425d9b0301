import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { size, table } from '../cli/table.ts';

export default class Pull extends BaseCommand {
  static override summary = 'Fetch a sealed model, or the build manifest attached to it, from a container registry.';
  static override description = `\
The owner's signature on the header, the index and every digest are checked before the file appears. The same command goes on
where an interrupted one stopped. A digest in place of the tag insists on one sealed model, byte for byte.`;
  static override examples = [
    '<%= config.bin %> pull localhost:5000/models/digits:1 --out digits.sealed --owner owner.key.pub',
    '<%= config.bin %> pull localhost:5000/models/digits:2 --out digits2.sealed --reuse digits.sealed',
    '<%= config.bin %> pull localhost:5000/models/digits:1 --manifest build.intoto.json',
  ];
  static override args = {
    ref: Args.string({ required: true, description: 'REGISTRY/REPOSITORY:TAG, or @DIGEST in place of :TAG' }),
  };
  static override flags = {
    out: Flags.string({ helpValue: 'FILE', description: 'sealed model to write' }),
    manifest: Flags.string({
      helpValue: 'FILE',
      description: 'build manifest to write; verify it before you trust it',
    }),
    owner: Flags.string({ helpValue: 'FILE', description: 'refuse any owner but this (public key)' }),
    reuse: Flags.string({
      helpValue: 'OLD.sealed',
      description: 'another version here, whose parts are not fetched again',
    }),
  };

  // What has come stays for the next run.
  protected override handlesSignals = true;

  async run() {
    const { args, flags } = await this.parse(Pull);
    const { pull } = await import('../tasks/pull.ts');
    const result = await pull({ reference: args.ref, ...flags, onProgress: this.onProgress });
    for (const warning of result.warnings) this.note(warning);
    if (result.path !== null) this.log(`pulled ${result.path} (${size(result.size)})`);
    if (result.manifest !== null) this.log(`pulled ${result.manifest.path} (not verified)`);
    this.log(
      table([
        ['digest', result.digest],
        ['seal id', `${result.sealId}, epoch ${result.epoch}`],
        ['owner', `${result.owner}${result.ownerChecked ? '' : ' (not compared)'}`],
        ...(result.path === null
          ? []
          : ([
              ['moved', size(result.moved)],
              ['here already', size(result.reused + result.kept)],
            ] as [string, string][])),
      ]),
    );
    return result;
  }
}
