import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { EXIT } from '../core/errors.ts';

export default class Diff extends BaseCommand {
  static override summary = 'Say why two builds have different measurements.';
  static override description =
    'From the registers to the measured part behind each, the file in it, what about the file differs, and the likely cause. Exit 0: the measurements are the same; 3: they are not. Nothing is verified: that is `verify`.';
  static override examples = [
    '<%= config.bin %> diff mine.eif theirs.eif',
    '<%= config.bin %> diff dist/build.intoto.json ../other/dist --html why.html',
    '<%= config.bin %> diff a/app.manifest.sgx b/app.manifest.sgx --libpal libpal.so --json',
    '<%= config.bin %> diff dist measured.json',
  ];
  static override args = {
    a: Args.string({
      required: true,
      description: 'EIF, signed Gramine manifest, build manifest or directory, or JSON with a measurement',
    }),
    b: Args.string({ required: true, description: 'the same, to compare with' }),
  };
  static override flags = {
    all: Flags.boolean({ description: 'tell every file that differs, not the first twenty of each measured part' }),
    html: Flags.string({ helpValue: 'FILE', description: 'write the comparison as one self-contained page, too' }),
    libpal: Flags.string({
      multiple: true,
      multipleNonGreedy: true,
      helpValue: 'FILE',
      description: 'libpal.so of the Gramine manifests; twice: of A, then of B [default: of NAME.gramine]',
    }),
  };

  async run() {
    const { args, flags } = await this.parse(Diff);
    const { diff } = await import('../tasks/diff.ts');
    const { all, html, libpal } = flags;
    const items = all ? Number.POSITIVE_INFINITY : undefined;
    const report = await diff({ ...args, libpal, items, onProgress: this.onProgress });
    if (html !== undefined) {
      const { renderDiffPage } = await import('../report/diff-page.ts');
      const { writeFileAtomic } = await import('../core/files.ts');
      await writeFileAtomic(html, renderDiffPage(report, this.config.version));
    }
    if (report.verdict === 'different' || report.verdict === 'debug') process.exitCode = EXIT.negative;
    if (!this.jsonEnabled()) {
      const { diffTree } = await import('../report/diff-tree.ts');
      this.log(diffTree(report));
    }
    return report;
  }
}
