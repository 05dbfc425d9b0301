import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';

export default class Unseal extends BaseCommand {
  static override summary = 'Open a sealed model with the recovery key.';
  static override description = `\
Nothing appears under --out before everything in the file was authenticated.

With --format gramine-pf every file becomes a protected file of Gramine, for an encrypted mount: an unmodified program
in Gramine can read it once the wrap key is there. Plaintext does not reach the disk.`;
  static override examples = [
    '<%= config.bin %> unseal model.sealed --key recovery.key --out model',
    '<%= config.bin %> unseal model.sealed --key recovery.key --out model --format gramine-pf --wrap-key wrap.key',
  ];
  static override args = { sealed: Args.string({ required: true, description: 'sealed model' }) };
  static override flags = {
    key: Flags.string({ required: true, helpValue: 'FILE', description: 'recovery key (private)' }),
    owner: Flags.string({ helpValue: 'FILE', description: 'refuse any owner but this (public key)' }),
    out: Flags.string({ required: true, helpValue: 'DIR', description: 'must not exist yet' }),
    format: Flags.option({
      options: ['files', 'gramine-pf'] as const,
      default: 'files',
      description: 'plain files, or protected files of Gramine',
    })(),
    'wrap-key': Flags.string({
      helpValue: 'FILE',
      description: 'key of the protected files: 16 bytes, as in /dev/attestation/keys',
    }),
    'pf-path': Flags.string({
      helpValue: 'PATH',
      description: 'where Gramine will open the protected files: the URI of the encrypted mount; --out unless given',
    }),
    'pf-version': Flags.option({
      options: ['1', '2'] as const,
      description: 'version of the protected files: 1 (default) for every Gramine, 2 for 1.9 and newer',
    })(),
  };

  async run() {
    const { args, flags } = await this.parse(Unseal);
    const { unseal } = await import('../tasks/unseal.ts');
    const version = flags['pf-version'];
    const result = await unseal({
      sealed: args.sealed,
      key: flags.key,
      owner: flags.owner,
      out: flags.out,
      format: flags.format,
      wrapKey: flags['wrap-key'],
      pfPath: flags['pf-path'],
      pfVersion: version === undefined ? undefined : version === '1' ? 1 : 2,
      onProgress: this.onProgress,
    });
    if (!flags.owner) this.note(`note: signed by owner ${result.owner}; give --owner to insist on one`);
    const kind = result.protectedFiles ? 'protected file' : 'file';
    this.log(`opened ${result.files} ${kind}${result.files === 1 ? '' : 's'} into ${result.out}`);
    if (result.protectedFiles) this.log(`Gramine opens them under the URI file:${result.protectedFiles.path || '.'}`);
    this.log(`model digest ${result.digest}`);
    return result;
  }
}
