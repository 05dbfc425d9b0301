import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { printable } from '../cli/error.ts';
import { allowSimulated } from '../cli/flags.ts';
import { table } from '../cli/table.ts';

export default class Run extends BaseCommand {
  static override summary =
    'Run one attested inference: launch the image, release the key to it, ask it, keep the proof.';
  static override description = `\
The input is an Open Inference Protocol v2 request; the enclave gets the file's bytes verbatim, and its receipt covers
them. --tee simulated really runs what was measured, isolated by Linux namespaces, and proves nothing about hardware.`;
  static override examples = [
    '<%= config.bin %> run dist/build.intoto.json --model model.sealed --input request.json --broker-key broker.key --allow-simulated local --receipt receipt.cbor --evidence evidence.json --response response.json',
    'cat request.json | <%= config.bin %> run dist/build.intoto.json --model model.sealed --input - --broker http://127.0.0.1:8700 --json',
  ];
  static override args = {
    manifest: Args.string({ required: true, description: 'build.intoto.json, its image beside it' }),
  };
  static override flags = {
    model: Flags.string({ required: true, helpValue: 'SEALED', description: 'sealed model' }),
    input: Flags.string({ required: true, helpValue: 'FILE|-', description: 'request (JSON)' }),
    tee: Flags.option({ options: ['simulated'] as const, default: 'simulated', description: 'where to run' })(),
    broker: Flags.string({ multiple: true, helpValue: 'URL', exclusive: ['broker-key'], description: 'broker to ask' }),
    'broker-key': Flags.string({ helpValue: 'FILE', description: 'be the broker, in this process' }),
    'allow-simulated': allowSimulated,
    receipt: Flags.string({ helpValue: 'FILE', description: 'write the receipt (AIR v1)' }),
    evidence: Flags.string({ helpValue: 'FILE', description: 'write the evidence' }),
    response: Flags.string({ helpValue: 'FILE', description: 'write the exact response bytes' }),
    owner: Flags.string({ helpValue: 'FILE', description: 'refuse an image that measures any other owner' }),
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
      brokerKey: flags['broker-key'],
      allowSimulated: flags['allow-simulated'] ?? [],
      receipt: flags.receipt,
      evidence: flags.evidence,
      response: flags.response,
      owner: flags.owner,
      onProgress: this.onProgress,
    });
    if (result.simulated) this.note('SIMULATED: no hardware vouches for this answer');
    for (const output of result.outputs) {
      const values = JSON.stringify(output.data);
      const shown = values.length > 200 ? `${values.slice(0, 200)}...` : values;
      this.log(printable(`${output.name} ${output.datatype} [${output.shape}] ${shown}`));
    }
    this.log(table(Object.entries(result.timings).map(([name, ms]) => [name, `${ms.toFixed(0)} ms`])));
    return result;
  }
}
