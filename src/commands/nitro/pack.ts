import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { measurementRows } from '../../cli/measurement.ts';
import { table } from '../../cli/table.ts';

export default class NitroPack extends BaseCommand {
  static override summary = 'Assemble an EIF from a kernel, a command line and ramdisks.';
  static override description = 'Writes the bytes that AWS eif_build writes for the same inputs and metadata.';
  static override examples = [
    '<%= config.bin %> nitro pack --kernel bzImage --cmdline "console=ttyS0" --ramdisk init.cpio --ramdisk app.cpio --out app.eif',
  ];
  static override flags = {
    kernel: Flags.string({ required: true, helpValue: 'FILE' }),
    cmdline: Flags.string({ required: true, helpValue: 'TEXT', description: 'kernel command line; may be empty' }),
    ramdisk: Flags.string({
      required: true,
      multiple: true,
      helpValue: 'FILE',
      description: 'in order; the first is measured with the kernel',
    }),
    arch: Flags.option({ options: ['x86_64', 'aarch64'] as const, default: 'x86_64' })(),
    metadata: Flags.string({ helpValue: 'FILE', description: 'metadata section, its bytes verbatim (not measured)' }),
    out: Flags.string({ required: true, helpValue: 'FILE' }),
  };

  async run() {
    const { flags } = await this.parse(NitroPack);
    const { packEif } = await import('../../nitro/index.ts');
    const { path, sha256, measurement } = await packEif({
      ...flags,
      ramdisks: flags.ramdisk,
      onProgress: this.onProgress,
    });
    this.log(`packed ${path}`);
    this.log(table([['sha256', sha256], ...measurementRows(measurement)]));
    return { path, sha256, measurement };
  }
}
