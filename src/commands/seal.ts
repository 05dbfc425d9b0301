import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { allowSimulated, parseTime } from '../cli/flags.ts';
import { size, table } from '../cli/table.ts';

export default class Seal extends BaseCommand {
  static override summary = 'Encrypt a model so that only an enclave with the expected measurement can open it.';
  static override description = `\
The measurement is recomputed from the image beside the manifest, and the model must be the one that the image
measured. With one broker, that broker can open the model: it is fully trusted with it.`;
  static override examples = [
    '<%= config.bin %> seal model --manifest dist/build.intoto.json --sign owner.key --to broker.key.pub --recovery recovery.key.pub --out model.sealed',
    '<%= config.bin %> seal model --manifest dist/build.intoto.json --sign owner.key --to broker.key.pub --allow-simulated local --out model.sealed',
  ];
  static override args = { model: Args.string({ required: true, description: 'model file or directory' }) };
  static override flags = {
    manifest: Flags.string({
      required: true,
      helpValue: 'FILE',
      description: 'build.intoto.json, its image beside it',
    }),
    sign: Flags.string({ required: true, helpValue: 'OWNER.key', description: 'owner key, as measured in the image' }),
    to: Flags.string({
      required: true,
      multiple: true,
      helpValue: 'BROKER.pub',
      description: 'broker that may release the key',
    }),
    threshold: Flags.integer({
      default: 1,
      min: 1,
      max: 255,
      helpValue: 'T',
      description: 'how many of the brokers it takes; fewer learn nothing',
    }),
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
    policy: Flags.string({
      helpValue: 'FILE',
      exclusive: ['accept-tcb', 'platform', 'not-after', 'allow-simulated'],
      description: 'release policy as JSON, instead of the flags below',
    }),
    'accept-tcb': Flags.string({ multiple: true, helpValue: 'STATUS', description: 'TCB status besides UpToDate' }),
    platform: Flags.string({ multiple: true, helpValue: 'ID', description: 'allow-listed platform id' }),
    'not-after': Flags.string({ helpValue: 'TIME', description: "no release after this, by the broker's clock" }),
    'allow-simulated': allowSimulated,
  };

  async run() {
    const { args, flags } = await this.parse(Seal);
    const { seal } = await import('../tasks/seal.ts');
    const result = await seal({
      model: args.model,
      manifest: flags.manifest,
      ownerKey: flags.sign,
      brokers: flags.to,
      threshold: flags.threshold,
      recovery: flags.recovery,
      out: flags.out,
      policyFile: flags.policy,
      acceptTcb: flags['accept-tcb'],
      platforms: flags.platform,
      notAfter: flags['not-after'] === undefined ? undefined : parseTime(flags['not-after']),
      allowSimulated: flags['allow-simulated'] ?? [],
      reuse: flags.reuse === undefined ? undefined : { sealed: flags.reuse, key: flags.key ?? '' },
      rehash: flags.rehash,
      onProgress: this.onProgress,
    });
    for (const warning of result.warnings) this.note(warning);
    this.log(`sealed ${result.path} (${size(result.size)})`);
    this.log(
      table([
        ['seal id', result.sealId],
        ['model', result.model],
        ['opens in', result.simulated ? 'the SIMULATED TEE only' : 'enclaves with the measurement of the manifest'],
        ['brokers', result.brokers.join(', ')],
        ['recovery', result.recovery ?? 'none: if the broker key is lost, this file is lost'],
      ]),
    );
    return result;
  }
}
