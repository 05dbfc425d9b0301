import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { measurementRows } from '../../cli/measurement.ts';
import { table } from '../../cli/table.ts';
import { usageError } from '../../core/errors.ts';

export default class GramineSign extends BaseCommand {
  static override summary = 'Measure and sign an SGX enclave as gramine-sgx-sign does; no SGX needed.';
  static override description = `\
Writes the manifest that is measured (NAME.manifest.sgx) and the enclave's signature (NAME.sig), both or none. The key can stay
where it is: --signer COMMAND gets the 256 bytes to sign on its standard input and prints the raw signature
(RSASSA-PKCS1-v1_5, SHA-256, 384 bytes); it is run by sh without a terminal, and its signature is verified with --public-key.`;
  static override examples = [
    '<%= config.bin %> keygen --type sgx --out sgx.key',
    '<%= config.bin %> gramine sign --manifest app.manifest --libpal /usr/lib/x86_64-linux-gnu/gramine/sgx/libpal.so --key sgx.key --date 2025-01-31 --out app.manifest.sgx --sig app.sig',
    {
      description: 'The key is in a token',
      command:
        '<%= config.bin %> gramine sign --manifest app.manifest --libpal libpal.so --signer "pkcs11-sign --slot 0" --public-key sgx.key.pub --out app.manifest.sgx --json',
    },
  ];
  static override flags = {
    manifest: Flags.string({
      required: true,
      helpValue: 'FILE',
      description: 'manifest, as `gramine manifest` writes it; what it leaves out is filled in',
    }),
    libpal: Flags.string({ required: true, helpValue: 'FILE', description: "libpal.so of Gramine's SGX host" }),
    key: Flags.string({
      helpValue: 'FILE',
      exclusive: ['signer', 'public-key'],
      description: 'RSA-3072 key with exponent 3, PEM (PKCS#1 or PKCS#8)',
    }),
    'passphrase-file': Flags.string({
      helpValue: 'FILE',
      dependsOn: ['key'],
      description: 'holds the passphrase of an encrypted key',
    }),
    signer: Flags.string({
      helpValue: 'COMMAND',
      dependsOn: ['public-key'],
      description: 'signs in place of a key file: standard input to standard output',
    }),
    'public-key': Flags.string({
      helpValue: 'FILE',
      dependsOn: ['signer'],
      description: "the signer's public key, PEM",
    }),
    date: Flags.string({
      helpValue: 'YYYY-MM-DD',
      description: 'date in the signature [default: of SOURCE_DATE_EPOCH, else today in UTC]',
    }),
    chroot: Flags.string({ helpValue: 'DIR', description: 'look for trusted files inside of this directory' }),
    out: Flags.string({ required: true, helpValue: 'FILE', description: 'the manifest that was measured' }),
    sig: Flags.string({ helpValue: 'FILE', description: 'the signature [default: NAME.sig for NAME.manifest.sgx]' }),
  };

  async run() {
    const { flags } = await this.parse(GramineSign);
    const { signGramine } = await import('../../tasks/gramine-sign.ts');
    const { manifest, libpal, date, chroot, out, sig, signer, key } = flags;
    const [publicKey, passphrase] = [flags['public-key'], flags['passphrase-file']];
    const from = key !== undefined ? { key, passphrase } : signer && publicKey ? { signer, publicKey } : undefined;
    if (from === undefined) {
      throw usageError('ERR_USAGE', 'expected a key to sign with, found none', {
        hint: 'give --key FILE, or --signer COMMAND with --public-key FILE',
      });
    }
    const { onProgress } = this;
    const signed = await signGramine({ manifest, libpal, signer: from, date, chroot, out, sig, onProgress });
    if (signed.date.from === 'today') {
      this.note(
        `note: signed with today's date, ${signed.date.date}; --date or SOURCE_DATE_EPOCH make the signature reproducible`,
      );
    }
    if (signed.debug) this.note('note: this is a DEBUG enclave: whoever runs it can read its memory');
    this.log(`signed ${signed.manifest}`);
    this.log(table([['signature', signed.sigstruct], ...measurementRows(signed.measurement)]));
    const { measurement, sigstruct } = signed;
    return { measurement, manifest: signed.manifest, sigstruct };
  }
}
