import { Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { EXIT } from '../core/errors.ts';

export default class Doctor extends BaseCommand {
  static override summary = 'What this machine can do, what is missing, and how to get it.';
  static override description = `\
Looks at kernel, namespaces, inputs of a build, QEMU, Nitro, Gramine, SGX, TDX and SEV-SNP, and changes nothing. Exits with
5 where something is missing that build, seal, run --tee simulated and verify need; the rest is for more than that.`;
  static override examples = [
    '<%= config.bin %> doctor',
    '<%= config.bin %> doctor --network   # ask the npm registry and the Debian mirror, too',
    '<%= config.bin %> doctor --json',
  ];
  static override flags = {
    network: Flags.boolean({ description: 'ask the npm registry and the Debian mirror for one package each' }),
  };

  async run() {
    const { flags } = await this.parse(Doctor);
    const { doctor } = await import('../tasks/doctor.ts');
    const report = await doctor({ network: flags.network, onProgress: this.onProgress });
    if (!report.ready) process.exitCode = EXIT.missing;
    if (!this.jsonEnabled()) {
      const { findingsTable } = await import('../cli/findings.ts');
      this.log(findingsTable(report, Math.min(process.stdout.columns ?? 100, 110)));
    }
    return report;
  }
}
