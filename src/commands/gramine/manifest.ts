import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { table } from '../../cli/table.ts';
import { usageError } from '../../core/errors.ts';

export default class GramineManifest extends BaseCommand {
  static override summary = 'Complete a Gramine manifest: render, fill in defaults, check, hash the trusted files.';
  static override description =
    'Writes the bytes that gramine-manifest writes (Gramine 1.9): they are measured. The template is Jinja, with undefined ' +
    'names as errors and with gramine.*, python.*, env and ldd(). Relative file: URIs are relative to the current directory.';
  static override examples = [
    '<%= config.bin %> gramine manifest app.manifest.template -D log_level=error --out app.manifest',
    '<%= config.bin %> gramine manifest app.manifest.template --chroot rootfs --out app.manifest',
  ];
  static override args = { template: Args.string({ description: 'the manifest template; or -c' }) };
  static override flags = {
    string: Flags.string({ char: 'c', helpValue: 'TEXT', description: 'the template itself instead of a file' }),
    define: Flags.string({
      char: 'D',
      multiple: true,
      multipleNonGreedy: true,
      helpValue: 'NAME=VALUE',
      description: 'a name for the template (repeatable); NAME alone is true',
    }),
    directory: Flags.string({
      helpValue: 'DIR',
      default: '.',
      description: 'what relative file: URIs are relative to',
    }),
    chroot: Flags.string({ helpValue: 'DIR', description: 'look for trusted files inside of this directory' }),
    gramine: Flags.string({
      helpValue: 'DIR',
      description: 'the directory of libsysdb.so; default: where an installed Gramine has it',
    }),
    check: Flags.boolean({
      allowNo: true,
      default: true,
      description: 'compare keys and values with what Gramine 1.9 knows',
    }),
    out: Flags.string({ required: true, helpValue: 'FILE' }),
  };

  async run() {
    const { args, flags } = await this.parse(GramineManifest);
    const { string: text, define: defines, ...options } = flags;
    if ((args.template === undefined) === (text === undefined)) {
      throw usageError('ERR_USAGE', 'expected a template file or -c TEXT, one of the two');
    }
    const { gramineManifest } = await import('../../tasks/gramine-manifest.ts');
    const template = text === undefined ? { path: args.template ?? '' } : { text };
    const result = await gramineManifest({ ...options, template, defines, onProgress: this.onProgress });
    const { path, sha256, size, trustedFiles, skipped, hostLinks } = result;
    if (skipped.length > 0) {
      this.note(`left out, as Gramine does, because they are no readable files: ${skipped.slice(0, 20).join(', ')}`);
    }
    if (hostLinks.length > 0) {
      this.note(
        `followed inside of the chroot; gramine-manifest follows them on this machine, and may measure otherwise: ${hostLinks.slice(0, 20).join(', ')}`,
      );
    }
    this.log(`wrote ${path}`);
    this.log(
      table([
        ['sha256', sha256],
        ['size', `${size} bytes`],
        ['trusted files', String(trustedFiles)],
      ]),
    );
    return { path, sha256, size, trustedFiles, skipped, hostLinks };
  }
}
