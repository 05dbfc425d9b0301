import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { policyFlags, policyWishes, recipientFlags, whoCanOpen } from '../cli/seal-flags.ts';
import { size, table } from '../cli/table.ts';

export default class Rebind extends BaseCommand {
  static override summary =
    'Give a sealed model a new header: another image, policy or brokers, the same sealed bytes.';
  static override description = `\
The new header has the next epoch, a policy made anew for the images beside the manifest, and fresh shares for the brokers
named; brokers' public keys are not in the old header, so --to names them again. What was encrypted is copied, not
encrypted again. The new policy is not in force until every broker was advanced: until then the old file still opens.
Whoever had the content key keeps it: after a leak, seal again.`;
  static override examples = [
    '<%= config.bin %> rebind model.sealed --manifest dist/build.intoto.json --sign owner.key --key recovery.key --to broker.key.pub --out model-2.sealed',
  ];
  static override args = { sealed: Args.string({ required: true, description: 'sealed model' }) };
  static override flags = {
    manifest: Flags.string({
      required: true,
      helpValue: 'FILE',
      description: 'build.intoto.json of the images that may open it from now on, those beside it',
    }),
    sign: Flags.string({
      required: true,
      helpValue: 'OWNER.key',
      description: "owner key: the header's, and the images'",
    }),
    key: Flags.string({ required: true, helpValue: 'RECOVERY', description: 'recovery key (private)' }),
    ...recipientFlags,
    recovery: Flags.string({
      helpValue: 'FILE.pub',
      description: 'another recovery key from now on [default: the one of --key]',
    }),
    out: Flags.string({ required: true, helpValue: 'FILE', description: 'another file than the sealed model' }),
    ...policyFlags,
  };

  async run() {
    const { args, flags } = await this.parse(Rebind);
    const { rebind } = await import('../tasks/rebind.ts');
    const result = await rebind({
      sealed: args.sealed,
      manifest: flags.manifest,
      ownerKey: flags.sign,
      key: flags.key,
      brokers: flags.to,
      threshold: flags.threshold,
      recovery: flags.recovery,
      out: flags.out,
      ...policyWishes(flags),
      onProgress: this.onProgress,
    });
    for (const warning of result.warnings) this.note(warning);
    this.log(`rebound ${result.path} (${size(result.size)})`);
    this.log(
      table([
        ['seal id', result.sealId],
        ['epoch', `${result.epoch} (was ${result.replaces.epoch})`],
        ...whoCanOpen(result),
      ]),
    );
    this.log('Not in force until every broker was advanced: until then brokers release to the old header too.');
    this.log(`  ${this.config.bin} broker advance ${result.path} --broker URL    (once for each broker)`);
    return result;
  }
}
