import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { at, parseTime } from '../../cli/flags.ts';
import { measurementRows } from '../../cli/measurement.ts';
import { table } from '../../cli/table.ts';

export default class NitroSign extends BaseCommand {
  static override summary = 'Sign an EIF, or replace its signature.';
  static override description =
    'Adds PCR8, the measurement of the certificate; every other register stays. The image appears whole or not at all, ' +
    'after its new signature was checked. A certificate that is not valid now is refused: Nitro would not start the image.';
  static override examples = [
    '<%= config.bin %> keygen --type eif --out eif.key',
    '<%= config.bin %> nitro sign app.eif --sign-cert eif.key.crt --sign-key eif.key',
    '<%= config.bin %> nitro sign app.eif --sign-cert cert.pem --sign-key key.pem --out signed.eif --json',
  ];
  static override args = { image: Args.string({ required: true, description: 'EIF, signed or not' }) };
  static override flags = {
    'sign-cert': Flags.string({ required: true, helpValue: 'FILE', description: 'certificate, PEM (becomes PCR8)' }),
    'sign-key': Flags.string({
      required: true,
      helpValue: 'FILE',
      description: 'its private key: P-256, P-384 or P-521, PEM, not encrypted',
    }),
    at,
    out: Flags.string({ helpValue: 'FILE', description: 'default: in place' }),
  };

  async run() {
    const { args, flags } = await this.parse(NitroSign);
    const { readSignerFiles, signEif } = await import('../../nitro/index.ts');
    const now = parseTime(flags.at);
    const sign = await readSignerFiles({ certificate: flags['sign-cert'], key: flags['sign-key'], now });
    const { image } = args;
    const { path, sha256, measurement } = await signEif({ image, sign, out: flags.out, onProgress: this.onProgress });
    this.log(`signed ${path}`);
    this.log(table([['sha256', sha256], ...measurementRows(measurement)]));
    return { path, sha256, measurement };
  }
}
