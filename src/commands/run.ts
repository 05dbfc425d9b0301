import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { allowSimulated, endorsements } from '../cli/flags.ts';
import { table } from '../cli/table.ts';
import { printable } from '../core/printable.ts';

const TEES = ['simulated', 'qemu', 'nitro', 'gramine'] as const;
const MACHINE = 'MACHINE (--tee qemu, --tee nitro)';

export default class Run extends BaseCommand {
  static override summary =
    'Run one attested inference: launch the image, release the key to it, ask it, keep the proof.';
  static override description = `\
The input is an Open Inference Protocol v2 request; the enclave gets the file's bytes verbatim, and its receipt covers
them. --tee simulated really runs what was measured, isolated by Linux namespaces; --tee qemu boots it, kernel and all, in
the best QEMU there is and says which; neither proves anything about hardware. --tee nitro runs it in a Nitro enclave of
this EC2 instance; --tee gramine runs the project's Gramine image, in an SGX enclave where this machine has SGX, else
without any TEE and SIMULATED. The image of a command (runtime.kind = "command") is asked at --path.`;
  static override examples = [
    '<%= config.bin %> run dist/build.intoto.json --model model.sealed --input request.json --broker-key broker.key --allow-simulated local --receipt receipt.cbor --evidence evidence.json --response response.json',
    'cat request.json | <%= config.bin %> run dist/build.intoto.json --model model.sealed --input - --broker http://127.0.0.1:8700 --json',
    '<%= config.bin %> run dist/build.intoto.json --model model.sealed --input request.json --broker-key broker.key --allow-simulated local --tee qemu --accel tcg --console',
  ];
  static override args = {
    manifest: Args.string({ required: true, description: 'build.intoto.json, its image beside it' }),
  };
  static override flags = {
    model: Flags.string({ required: true, helpValue: 'SEALED', description: 'sealed model' }),
    input: Flags.string({ required: true, helpValue: 'FILE|-', description: 'request (JSON)' }),
    tee: Flags.option({ options: TEES, default: 'simulated' as const, description: 'where to run' })(),
    broker: Flags.string({ multiple: true, helpValue: 'URL', description: 'broker to ask' }),
    'broker-key': Flags.string({
      multiple: true,
      helpValue: 'FILE',
      description: 'be the broker with this key, in this process',
    }),
    endorsements,
    'allow-simulated': allowSimulated,
    receipt: Flags.string({ helpValue: 'FILE', description: 'write the receipt (AIR v1)' }),
    evidence: Flags.string({ helpValue: 'FILE', description: 'write the evidence' }),
    response: Flags.string({ helpValue: 'FILE', description: 'write the exact response bytes' }),
    path: Flags.string({
      helpValue: 'PATH',
      description: 'path of the request, for a command [default: the inference path]',
    }),
    'content-type': Flags.string({ helpValue: 'TYPE', description: 'of the request [default: application/json]' }),
    owner: Flags.string({ helpValue: 'FILE', description: 'refuse an image that measures any other owner' }),
    console: Flags.boolean({ description: "show the enclave's console on stderr" }),
    memory: Flags.integer({
      min: 64,
      helpValue: 'MIB',
      description: "memory of the machine [default: the project's]",
      helpGroup: MACHINE,
    }),
    cpus: Flags.integer({
      min: 1,
      max: 255,
      helpValue: 'N',
      description: "its processors [default: the project's]",
      helpGroup: MACHINE,
    }),
    machine: Flags.option({
      options: ['nitro-enclave', 'microvm'] as const,
      description:
        'qemu: nitro-enclave boots the EIF itself and has an NSM, microvm its parts [default: the best there is]',
      helpGroup: MACHINE,
    })(),
    accel: Flags.option({
      options: ['kvm', 'tcg'] as const,
      description: 'qemu: hardware virtualisation, or emulation [default: kvm where it works]',
      helpGroup: MACHINE,
    })(),
    'boot-timeout': Flags.integer({
      min: 1,
      helpValue: 'SECONDS',
      description: 'how long the program may take to appear',
      helpGroup: MACHINE,
    }),
    gramine: Flags.directory({
      exists: true,
      helpValue: 'DIR',
      description: 'prefix of a Gramine installation [default: ATOMA_TEE_GRAMINE, then PATH]',
      helpGroup: 'GRAMINE (--tee gramine)',
    }),
    'debug-mode': Flags.boolean({
      description: 'nitro: an enclave whose console can be read, and its memory too: NO SECRETS ARE SAFE in it',
      helpGroup: MACHINE,
    }),
    force: Flags.boolean({
      description: 'run what is not expected to boot there: its kernel, or too little memory',
      helpGroup: MACHINE,
    }),
  };

  async run() {
    const { args, flags } = await this.parse(Run);
    const { runOnce } = await import('../tasks/run.ts');
    const result = await runOnce({
      manifest: args.manifest,
      model: flags.model,
      input: flags.input,
      tee: flags.tee,
      brokers: flags.broker ?? [],
      brokerKeys: flags['broker-key'] ?? [],
      endorsements: flags.endorsements,
      allowSimulated: flags['allow-simulated'] ?? [],
      receipt: flags.receipt,
      evidence: flags.evidence,
      response: flags.response,
      owner: flags.owner,
      path: flags.path,
      contentType: flags['content-type'],
      memoryMib: flags.memory,
      cpus: flags.cpus,
      machine: flags.machine,
      accel: flags.accel,
      gramine: flags.gramine,
      debugMode: flags['debug-mode'],
      force: flags.force,
      bootTimeoutMs: flags['boot-timeout'] === undefined ? undefined : flags['boot-timeout'] * 1000,
      onLog: flags.console ? (line) => this.note(`  | ${printable(line)}`) : undefined,
      onNote: (text) => this.note(printable(text)),
      onProgress: this.onProgress,
    });
    const { launcher, reply } = result;
    if ((launcher.kind === 'nitro' || launcher.kind === 'gramine') && launcher.debug) {
      this.note(
        'DEBUG: the enclave ran in debug mode, in which its memory can be read; no verifier takes its evidence',
      );
    }
    if (result.simulated) this.note('SIMULATED: no hardware vouches for this answer');
    for (const output of result.outputs) {
      const values = JSON.stringify(output.data);
      const shown = values.length > 200 ? `${values.slice(0, 200)}...` : values;
      this.log(printable(`${output.name} ${output.datatype} [${output.shape}] ${shown}`));
    }
    if (reply) {
      const shown = reply.text === undefined ? '' : `\n${reply.text.split('\n').map(printable).join('\n')}`;
      this.log(`${printable(reply.contentType || 'no content type')}, ${reply.bytes} bytes${shown}`);
    }
    this.log(table(Object.entries(result.timings).map(([name, ms]) => [name, `${ms.toFixed(0)} ms`])));
    return result;
  }
}
