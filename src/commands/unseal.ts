import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';

export default class Unseal extends BaseCommand {
  static override summary = 'Open a sealed model with the recovery key.';
  static override description = 'Nothing appears under --out before everything in the file was authenticated.';
  static override examples = ['<%= config.bin %> unseal model.sealed --key recovery.key --out model'];
  static override args = { sealed: Args.string({ required: true, description: 'sealed model' }) };
  static override flags = {
    key: Flags.string({ required: true, helpValue: 'FILE', description: 'recovery key (private)' }),
    owner: Flags.string({ helpValue: 'FILE', description: 'refuse any owner but this (public key)' }),
    out: Flags.string({ required: true, helpValue: 'DIR', description: 'must not exist yet' }),
  };

  async run() {
    const { args, flags } = await this.parse(Unseal);
    const { unseal } = await import('../tasks/unseal.ts');
    const result = await unseal({ sealed: args.sealed, ...flags, onProgress: this.onProgress });
    if (!flags.owner) this.note(`note: signed by owner ${result.owner}; give --owner to insist on one`);
    this.log(`opened ${result.files} file${result.files === 1 ? '' : 's'} into ${result.out}`);
    this.log(`model digest ${result.digest}`);
    return result;
  }
}
