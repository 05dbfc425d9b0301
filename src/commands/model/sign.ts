import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { table } from '../../cli/table.ts';

export default class ModelSign extends BaseCommand {
  static override summary = 'Sign a model as OpenSSF Model Signing has it; `model_signing verify key` reads that too.';
  static override description = `\
Over the plaintext: a signature inside of the model's directory (the default) is left out of what it signs, but is a file of the
model to \`build\` and \`seal\`, and comes out again when it is unsealed. So sign first, then build, then seal.`;
  static override examples = [
    '<%= config.bin %> keygen --type build --out build.key',
    '<%= config.bin %> model sign model --key build.key',
    '<%= config.bin %> model sign model.onnx --key build.key --out model.onnx.sig --json',
  ];
  static override args = { model: Args.string({ required: true, description: 'model file or directory' }) };
  static override flags = {
    key: Flags.string({ required: true, helpValue: 'BUILD.key', description: 'build key (P-256)' }),
    out: Flags.string({
      helpValue: 'FILE',
      description: 'the signature [default: model.sig in the directory; FILE.sig for a file]',
    }),
  };

  async run() {
    const { args, flags } = await this.parse(ModelSign);
    const { signModel } = await import('../../tasks/model-signature.ts');
    const { model } = args;
    const signed = await signModel({ model, key: flags.key, out: flags.out, onProgress: this.onProgress });
    if (signed.ignored.length > 0) this.note(`note: not signed: ${signed.ignored.length} files of git`);
    if (signed.single)
      this.note(
        'note: model_signing up to now calls the file of a single-file model ".", against its specification, and will not verify this one; a directory it does',
      );
    this.log(`signed ${model}`);
    this.log(
      table([
        ['signature', signed.path],
        ['files', String(signed.files)],
        ['root digest', signed.root],
      ]),
    );
    return signed;
  }
}
