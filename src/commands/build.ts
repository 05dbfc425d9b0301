import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { measurementRows } from '../cli/measurement.ts';
import { size, table } from '../cli/table.ts';
import type { CheckDetails } from '../tasks/build/check.ts';

export default class Build extends BaseCommand {
  static override summary = 'Build the enclave images of a project, byte for byte reproducibly.';
  static override description =
    'Writes NAME.eif (nitro); NAME.manifest.sgx, NAME.sig, NAME.gramine and NAME.oci (gramine); build.intoto.json (the build manifest), measurements.json and bom.cdx.json (the bill of materials). The model is measured, not contained.';
  static override examples = [
    '<%= config.bin %> build examples/digits',
    '<%= config.bin %> build --offline --out /tmp/out --json',
    '<%= config.bin %> build --target gramine',
    '<%= config.bin %> build --sign build.key',
    '<%= config.bin %> build --check measurements.json --save-inputs /tmp/inputs',
    '<%= config.bin %> build --inputs /tmp/inputs   # no network',
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
    'disclose-model': Flags.boolean({
      description:
        'let bom.cdx.json tell the files, inputs, outputs, operators and size of the model, not only its digest',
    }),
    offline: Flags.boolean({ description: 'use the cache only' }),
    inputs: Flags.string({
      helpValue: 'DIR',
      description: 'archive that --save-inputs wrote: take every input from there, fetch nothing',
    }),
    'save-inputs': Flags.string({
      helpValue: 'DIR',
      description: 'write an archive of every input too, so that anybody can build this without a network',
    }),
    check: Flags.string({
      helpValue: 'FILE',
      description:
        'exit 3 with the differences, and write nothing, unless the measurements are those of FILE (measurements.json, build --json, {"pcr0": ...})',
    }),
    'nitro-cli-json': Flags.boolean({
      exclusive: ['json'],
      description: 'print what `nitro-cli build-enclave` prints, for scripts that read it',
    }),
  };

  async run() {
    const { args, flags } = await this.parse(Build);
    const { build } = await import('../tasks/build/index.ts');
    const running = build({
      project: args.dir,
      ...(flags.out === undefined ? {} : { out: flags.out }),
      ...(flags.target === undefined ? {} : { targets: flags.target }),
      offline: flags.offline,
      discloseModel: flags['disclose-model'],
      ...(flags.sign === undefined ? {} : { sign: flags.sign }),
      ...(flags.inputs === undefined ? {} : { inputs: flags.inputs }),
      ...(flags['save-inputs'] === undefined ? {} : { saveInputs: flags['save-inputs'] }),
      ...(flags.check === undefined ? {} : { check: flags.check }),
      onProgress: this.onProgress,
    });
    const result = await running.catch((error) => this.#explain(error));
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

  /** What differs, on stdout: it is what was asked for. With --json it is in the error's details. */
  async #explain(error: unknown): Promise<never> {
    const { AtomaError } = await import('../core/errors.ts');
    if (error instanceof AtomaError && error.code === 'ERR_BUILD_CHECK') {
      const { differenceLine } = await import('../manifest/compare-measurements.ts');
      const { printable } = await import('../core/printable.ts');
      const { differences, omitted, diff } = error.details as unknown as CheckDetails;
      // Parts and files are in the comparison below, with what is known of them.
      const shown = diff ? differences.filter(({ kind }) => kind === 'register' || kind === 'image') : differences;
      for (const difference of shown) this.log(printable(differenceLine(difference)));
      if (omitted > 0 && !diff) this.log(`and ${omitted} more`);
      if (diff) this.log(`\n${(await import('../report/diff-tree.ts')).diffTree(diff)}`);
    }
    throw error;
  }
}
