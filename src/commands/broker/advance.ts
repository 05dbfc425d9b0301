import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { table } from '../../cli/table.ts';
import { printable } from '../../core/printable.ts';

export default class BrokerAdvance extends BaseCommand {
  static override summary = 'Put the header of a sealed model in force: brokers refuse older ones from then on.';
  static override description = `\
Sends the header, which the owner signed, to each broker. It needs no key. A broker raises the epoch only for a header
whose share opens, and never lowers it; a broker that was not advanced goes on releasing to the old header.`;
  static override examples = [
    '<%= config.bin %> broker advance model-2.sealed --broker http://127.0.0.1:8700',
    '<%= config.bin %> broker advance model-2.sealed --broker https://a.example --broker https://b.example',
  ];
  static override args = { sealed: Args.string({ required: true, description: 'sealed model with the new header' }) };
  static override flags = {
    broker: Flags.string({ required: true, multiple: true, helpValue: 'URL', description: 'broker to advance' }),
  };

  async run() {
    const { args, flags } = await this.parse(BrokerAdvance);
    const { advance, advanceError } = await import('../../tasks/advance.ts');
    const result = await advance({ sealed: args.sealed, brokers: flags.broker });
    const { epoch, sealId, brokers } = result;
    this.log(`epoch ${epoch} of seal ${sealId}`);
    this.log(
      table(
        brokers.map((one): [string, string] => [
          one.url,
          'error' in one
            ? `not advanced: ${printable(one.error.message)}`
            : one.previous === one.epoch
              ? 'in force already'
              : `in force (was ${one.previous === 0 ? 'none' : one.previous})`,
        ]),
      ),
    );
    const error = advanceError(result);
    if (error !== undefined) throw error;
    return result;
  }
}
