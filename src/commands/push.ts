import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { size, table } from '../cli/table.ts';

export default class Push extends BaseCommand {
  static override summary = 'Store a sealed model in a container registry.';
  static override description = `\
Only what the registry lacks is moved: header, index and parts are blobs of an OCI artifact. Log in with docker login or
skopeo login. Whoever can read the repository can read what a sealed model does not hide: sizes, policy, owner.`;
  static override examples = [
    '<%= config.bin %> push digits.sealed localhost:5000/models/digits:1',
    '<%= config.bin %> push digits.sealed registry.example/models/digits:2 --manifest dist/build.intoto.json',
  ];
  static override args = {
    sealed: Args.string({ required: true, description: 'sealed model' }),
    ref: Args.string({ required: true, description: 'REGISTRY/REPOSITORY:TAG' }),
  };
  static override flags = {
    manifest: Flags.string({
      helpValue: 'FILE',
      description: 'build manifest to attach, with the build.sigstore.json beside it',
    }),
    from: Flags.string({
      helpValue: 'REPOSITORY',
      description: 'repository of the same registry that may have parts already',
    }),
  };

  async run() {
    const { args, flags } = await this.parse(Push);
    const { push } = await import('../tasks/push.ts');
    const result = await push({ sealed: args.sealed, reference: args.ref, ...flags, onProgress: this.onProgress });
    for (const warning of result.warnings) this.note(warning);
    this.log(`pushed ${result.reference} (${size(result.size)})`);
    this.log(
      table([
        ['digest', result.digest],
        ['moved', size(result.moved)],
        ['there already', size(result.skipped + result.mounted)],
        ['build manifest', result.manifest?.digest ?? 'none attached'],
      ]),
    );
    return result;
  }
}
