import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';

export default class Lock extends BaseCommand {
  static override summary = 'Pin every fetched input of a project by digest, in atoma-tee.lock.';
  static override description =
    'Without a lock, writes one from the base that this toolkit ships. With one, only adds or drops what enclave.toml has come to ask for.';
  static override examples = [
    '<%= config.bin %> lock examples/digits',
    '<%= config.bin %> lock --update',
    '<%= config.bin %> lock --local   # after docker save, or after editing a dir: base',
  ];
  static override args = { dir: Args.string({ default: '.', description: 'project directory' }) };
  static override flags = {
    update: Flags.boolean({ description: 'look for newer inputs too, and show what changes' }),
    toolkit: Flags.boolean({
      exclusive: ['update'],
      description: "take this toolkit's own parts and base, and look nothing up (the mend after an upgrade)",
    }),
    local: Flags.boolean({
      exclusive: ['update', 'toolkit'],
      description: "pin the container image, the project's kernel files and Gramine anew, and nothing else",
    }),
  };

  async run() {
    const { args, flags } = await this.parse(Lock);
    const { lockProject } = await import('../tasks/lock/index.ts');
    const result = await lockProject(args.dir, {
      update: flags.toolkit ? 'toolkit' : flags.local ? 'local' : flags.update,
      onProgress: this.onProgress,
    });
    for (const warning of result.warnings) this.note(`warning: ${warning}`);
    for (const change of result.changes)
      this.log(`${change.name}: ${change.from ?? '(new)'} -> ${change.to ?? '(removed)'}`);
    this.log(result.changes.length === 0 ? `${result.path} is up to date` : `wrote ${result.path}`);
    return { path: result.path, changes: result.changes, warnings: result.warnings };
  }
}
