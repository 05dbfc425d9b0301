import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { table } from '../cli/table.ts';
import { printable } from '../core/printable.ts';

export default class Init extends BaseCommand {
  static override summary = 'Make a project out of a model: enclave.toml, keys, an example request, the lock.';
  static override description = `\
Asks only what it cannot find out; every question has a flag, and --yes takes the defaults. What the model is, is read from its
files: ONNX is served by the toolkit itself, anything else by a program of yours (--image, --command). Nothing that is
there is overwritten. Private keys are made in keys/ (0600, ignored by git).`;
  static override examples = [
    '<%= config.bin %> init',
    '<%= config.bin %> init digits --model digits.onnx',
    '<%= config.bin %> init digits --model digits.onnx --target nitro --target gramine --yes',
    '<%= config.bin %> init chat --model model.gguf --image oci:registry.example/llama:1 --yes --json',
  ];
  static override args = { dir: Args.string({ default: '.', description: 'project directory, made if need be' }) };
  static override flags = {
    model: Flags.string({ helpValue: 'PATH', description: 'model, a file or a directory' }),
    copy: Flags.boolean({
      allowNo: true,
      description: 'copy the model into the project [default: it stays where it is]',
    }),
    name: Flags.string({ helpValue: 'NAME', description: "[default: the directory's, else the model's]" }),
    version: Flags.string({ helpValue: 'VERSION', description: '[default: 1.0.0]' }),
    target: Flags.option({
      options: ['nitro', 'gramine'] as const,
      multiple: true,
      description: 'what to build for [default: nitro]',
    })(),
    owner: Flags.string({
      helpValue: 'FILE|new',
      description: "the owner's public key; new makes a pair [default: new]",
    }),
    runtime: Flags.option({
      options: ['onnx', 'command'] as const,
      description: 'what serves the model [default: onnx for ONNX, else command]',
    })(),
    image: Flags.string({ helpValue: 'REFERENCE', description: 'command: container image that serves it' }),
    command: Flags.string({
      multiple: true,
      helpValue: 'WORD',
      description: 'command: what to run in it, word by word',
    }),
    port: Flags.integer({ min: 1, max: 65_535, description: 'command: where it serves HTTP [default: 8080]' }),
    lock: Flags.boolean({ allowNo: true, default: true, description: 'write atoma-tee.lock, too' }),
    yes: Flags.boolean({ char: 'y', description: 'ask nothing' }),
  };

  async run() {
    const { args, flags } = await this.parse(Init);
    const { initProject } = await import('../tasks/init/index.ts');
    const result = await initProject({
      dir: args.dir,
      model: flags.model,
      copy: flags.copy,
      name: flags.name,
      version: flags.version,
      targets: flags.target,
      owner: flags.owner,
      runtime: flags.runtime,
      image: flags.image,
      command: flags.command,
      port: flags.port,
      lock: flags.lock,
      yes: flags.yes,
      asker: flags.yes ? undefined : await asker(),
      onProgress: this.onProgress,
    });
    this.log(`made the project ${result.name} in ${result.dir}`);
    const keys = result.files.filter((file) => file.endsWith('.key'));
    const files = result.files.filter((file) => !file.startsWith('keys/'));
    const kept = result.kept.map((file): [string, string] => ['kept', `${file}, which was there`]);
    this.log(
      table([
        ['model', `${printable(result.model.path)}: ${printable(result.model.summary)}`],
        ['files', files.join(', ')],
        ['keys', `in keys/: ${keys.map((file) => file.slice('keys/'.length)).join(', ')} (0600; git ignores them)`],
        ...kept,
      ]),
    );
    for (const note of result.notes) this.note(`note: ${printable(note)}`);
    this.log(`\nnow, in ${result.dir} (its README says what they do):\n`);
    for (const command of result.commands) this.log(command);
    return result;
  }
}

/** Inquirer is loaded only where there is somebody to ask. */
async function asker() {
  if (process.stdin.isTTY !== true) return undefined;
  const { canAsk, terminalAsker } = await import('../cli/prompts.ts');
  return canAsk() ? terminalAsker() : undefined;
}
