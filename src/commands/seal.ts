import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { policyFlags, policyWishes, recipientFlags, whoCanOpen } from '../cli/seal-flags.ts';
import { size, table } from '../cli/table.ts';

export default class Seal extends BaseCommand {
  static override summary = 'Encrypt a model so that only an enclave with the expected measurement can open it.';
  static override description = `\
Measurements are recomputed from the images beside the manifest, and the model must be the one that they measured. With
--threshold 1 every broker can open the model: each is fully trusted with it. With --threshold T, T of them together can.`;
  static override examples = [
    '<%= config.bin %> seal model --manifest dist/build.intoto.json --sign owner.key --to broker.key.pub --recovery recovery.key.pub --out model.sealed',
    '<%= config.bin %> seal model --manifest dist/build.intoto.json --sign owner.key --to a.pub --to b.pub --to c.pub --threshold 2 --recovery recovery.key.pub --out model.sealed',
    '<%= config.bin %> seal model --manifest dist/build.intoto.json --sign owner.key --to broker.key.pub --bind signer --out model.sealed',
    '<%= config.bin %> seal model --manifest dist/build.intoto.json --sign owner.key --to broker.key.pub --allow-simulated local --out model.sealed',
  ];
  static override args = { model: Args.string({ required: true, description: 'model file or directory' }) };
  static override flags = {
    manifest: Flags.string({
      required: true,
      helpValue: 'FILE',
      description: 'build.intoto.json, its images beside it',
    }),
    'manifest-key': Flags.string({
      helpValue: 'BUILD.pub',
      description: 'who must have signed the manifest; images that are not beside it are then believed',
    }),
    'model-key': Flags.string({
      helpValue: 'BUILD.pub',
      description: 'who must have signed the model: its model.sig is checked before it is sealed',
    }),
    'trust-manifest': Flags.boolean({
      exclusive: ['manifest-key'],
      description: 'believe the manifest, as it is, about images that are not beside it',
    }),
    sign: Flags.string({ required: true, helpValue: 'OWNER.key', description: 'owner key, as measured in the image' }),
    ...recipientFlags,
    recovery: Flags.string({ helpValue: 'FILE.pub', description: 'recovery key: opens the file without a broker' }),
    out: Flags.string({ required: true, helpValue: 'FILE' }),
    reuse: Flags.string({
      helpValue: 'OLD.sealed',
      dependsOn: ['key'],
      description: 'take over the parts that did not change, byte for byte, from an older sealed model',
    }),
    key: Flags.string({
      helpValue: 'RECOVERY',
      dependsOn: ['reuse'],
      description: 'recovery key (private) of that older sealed model',
    }),
    rehash: Flags.boolean({ description: 'digest every file anew: believe nothing that was remembered' }),
    ...policyFlags,
  };

  async run() {
    const { args, flags } = await this.parse(Seal);
    const { seal } = await import('../tasks/seal.ts');
    const result = await seal({
      model: args.model,
      manifest: flags.manifest,
      manifestKey: flags['manifest-key'],
      modelKey: flags['model-key'],
      trustManifest: flags['trust-manifest'],
      ownerKey: flags.sign,
      brokers: flags.to,
      threshold: flags.threshold,
      recovery: flags.recovery,
      out: flags.out,
      reuse: flags.reuse === undefined ? undefined : { sealed: flags.reuse, key: flags.key ?? '' },
      rehash: flags.rehash,
      ...policyWishes(flags),
      onProgress: this.onProgress,
    });
    for (const warning of result.warnings) this.note(warning);
    this.log(`sealed ${result.path} (${size(result.size)})`);
    const { parts, bytes } = result.reused;
    const reused: [string, string][] = flags.reuse ? [['taken over', `${parts} parts (${size(bytes)})`]] : [];
    this.log(table([['seal id', result.sealId], ['model', result.model], ...reused, ...whoCanOpen(result)]));
    return result;
  }
}
