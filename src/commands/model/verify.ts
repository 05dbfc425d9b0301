import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { EXIT } from '../../core/errors.ts';

export default class ModelVerify extends BaseCommand {
  static override summary = 'Check that a model is the one that was signed, file by file.';
  static override description =
    'Exit code 3: another key signed it, or files are changed, missing or not signed. Reads signatures of `model sign` and of `model_signing sign key`.';
  static override examples = [
    '<%= config.bin %> model verify model --key build.key.pub',
    '<%= config.bin %> model verify model.onnx --signature model.onnx.sig --key build.key.pub --json',
  ];
  static override args = { model: Args.string({ required: true, description: 'model file or directory' }) };
  static override flags = {
    key: Flags.string({
      required: true,
      helpValue: 'BUILD.pub',
      description: "signer's public key (P-256, P-384, P-521)",
    }),
    signature: Flags.string({
      helpValue: 'FILE',
      description: 'the signature [default: model.sig in the directory; FILE.sig for a file]',
    }),
  };

  async run() {
    const { args, flags } = await this.parse(ModelVerify);
    const { verifyModel } = await import('../../tasks/model-verify.ts');
    const { model } = args;
    const report = await verifyModel({
      model,
      key: flags.key,
      signature: flags.signature,
      onProgress: this.onProgress,
    });
    if (report.verdict === 'fail') process.exitCode = EXIT.negative;
    if (!this.jsonEnabled()) {
      const { trustTree } = await import('../../cli/trust-tree.ts');
      this.log(trustTree(report));
    }
    return report;
  }
}
