import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { parseTime } from '../../cli/flags.ts';
import { measurementRows } from '../../cli/measurement.ts';
import { table } from '../../cli/table.ts';

export default class NitroPack extends BaseCommand {
  static override summary = 'Assemble an EIF from a kernel, a command line and ramdisks.';
  static override description =
    'Writes the bytes that AWS eif_build writes for the same inputs and metadata; of a signed image all but the signature, ' +
    'which is never the same twice.';
  static override examples = [
    '<%= config.bin %> nitro pack --kernel bzImage --cmdline "console=ttyS0" --ramdisk init.cpio --ramdisk app.cpio --out app.eif',
    '<%= config.bin %> nitro pack --kernel bzImage --cmdline-file cmdline --ramdisk init.cpio --ramdisk app.cpio --sign-cert eif.key.crt --sign-key eif.key --out app.eif',
  ];
  static override flags = {
    kernel: Flags.string({ required: true, helpValue: 'FILE' }),
    cmdline: Flags.string({
      helpValue: 'TEXT',
      description: 'kernel command line; may be empty',
      exactlyOne: ['cmdline', 'cmdline-file'],
    }),
    'cmdline-file': Flags.string({ helpValue: 'FILE', description: 'the same from a file, its bytes verbatim' }),
    ramdisk: Flags.string({
      required: true,
      multiple: true,
      helpValue: 'FILE',
      description: 'in order; the first is measured with the kernel',
    }),
    arch: Flags.option({ options: ['x86_64', 'aarch64'] as const, default: 'x86_64' })(),
    metadata: Flags.string({ helpValue: 'FILE', description: 'metadata section, its bytes verbatim (not measured)' }),
    'sign-cert': Flags.string({
      helpValue: 'FILE',
      description: 'sign with this certificate (PEM; becomes PCR8)',
      dependsOn: ['sign-key'],
    }),
    'sign-key': Flags.string({
      helpValue: 'FILE',
      description: 'its private key: P-256, P-384 or P-521, PEM, not encrypted',
      dependsOn: ['sign-cert'],
    }),
    at: Flags.string({
      helpValue: 'TIME',
      description: 'the certificate has to be valid at this time (ISO 8601) instead of now',
      dependsOn: ['sign-cert'],
    }),
    out: Flags.string({ required: true, helpValue: 'FILE' }),
  };

  async run() {
    const { flags } = await this.parse(NitroPack);
    const { packEif, readSignerFiles } = await import('../../nitro/index.ts');
    const { 'sign-cert': certificate, 'sign-key': key } = flags;
    const { path, sha256, measurement } = await packEif({
      ...flags,
      cmdline: flags.cmdline ?? { file: flags['cmdline-file'] ?? '' },
      ramdisks: flags.ramdisk,
      sign: certificate && key ? await readSignerFiles({ certificate, key, now: parseTime(flags.at) }) : undefined,
      onProgress: this.onProgress,
    });
    this.log(`packed ${path}`);
    this.log(table([['sha256', sha256], ...measurementRows(measurement)]));
    return { path, sha256, measurement };
  }
}
