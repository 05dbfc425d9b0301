import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { measurementRows } from '../cli/measurement.ts';
import { size, table } from '../cli/table.ts';

export default class Build extends BaseCommand {
  static override summary = 'Build the enclave images of a project, byte for byte reproducibly.';
  static override description =
    'Writes NAME.eif (nitro); NAME.manifest.sgx, NAME.sig, NAME.gramine and NAME.oci (gramine); build.intoto.json (the build manifest) and measurements.json. The model is measured, not contained.';
  static override examples = [
    '<%= config.bin %> build examples/digits',
    '<%= config.bin %> build --offline --out /tmp/out --json',
    '<%= config.bin %> build --target gramine',
    '<%= config.bin %> build --sign build.key',
  ];
  static override args = { dir: Args.string({ default: '.', description: 'project directory' }) };
  static override flags = {
    target: Flags.option({
      options: ['nitro', 'gramine'] as const,
      multiple: true,
      description: 'default: targets in enclave.toml',
    })(),
    out: Flags.string({ helpValue: 'DIR', description: 'output directory (default: DIR/dist)' }),
    sign: Flags.string({
      helpValue: 'BUILD.key',
      description: 'sign the manifest with this build key: build.sigstore.json, a Sigstore bundle',
    }),
    offline: Flags.boolean({ description: 'use the cache only' }),
    'nitro-cli-json': Flags.boolean({
      exclusive: ['json'],
      description: 'print what `nitro-cli build-enclave` prints, for scripts that read it',
    }),
  };

  async run() {
    const { args, flags } = await this.parse(Build);
    const { build } = await import('../tasks/build/index.ts');
    const result = await build({
      project: args.dir,
      ...(flags.out === undefined ? {} : { out: flags.out }),
      ...(flags.target === undefined ? {} : { targets: flags.target }),
      offline: flags.offline,
      ...(flags.sign === undefined ? {} : { sign: flags.sign }),
      onProgress: this.onProgress,
    });
    for (const warning of result.warnings) this.note(`warning: ${warning}`);
    if (flags['nitro-cli-json']) {
      const { nitroCliMeasurements } = await import('../nitro/index.ts');
      for (const image of result.images)
        if (image.target === 'nitro') this.log(nitroCliMeasurements(image.measurement));
      return result;
    }
    for (const image of result.images) {
      this.log(`built ${image.path} (${size(image.size)})`);
      const more: [string, string][] =
        image.target === 'gramine'
          ? [
              ['sigstruct', image.sigstruct],
              ['root', image.directory],
              ['OCI layout', image.layout],
            ]
          : [];
      this.log(table([['sha256', image.sha256], ...measurementRows(image.measurement), ...more]));
    }
    this.log(`manifest ${result.manifest}${result.signature ? `, signed: ${result.signature}` : ''}`);
    return result;
  }
}
