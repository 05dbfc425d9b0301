import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { measurementRows } from '../../cli/measurement.ts';
import { size, table } from '../../cli/table.ts';
import { printable } from '../../core/printable.ts';

export default class NitroUnpack extends BaseCommand {
  static override summary = 'Take an EIF apart: kernel, command line, ramdisks, metadata, signature.';
  static override description =
    'The parts appear whole, after the image was checked: structure and CRC. Its ramdisks stay archives (cpio). ' +
    '--json says what is what, and with which arguments `nitro pack` puts it together again.';
  static override examples = [
    '<%= config.bin %> nitro unpack app.eif --out app.parts',
    '<%= config.bin %> nitro unpack app.eif --out app.parts --json',
  ];
  static override args = { image: Args.string({ required: true, description: 'EIF' }) };
  static override flags = {
    out: Flags.string({ required: true, helpValue: 'DIR', description: 'must not exist yet, or be empty' }),
  };

  async run() {
    const { args, flags } = await this.parse(NitroUnpack);
    const { unpackEif } = await import('../../nitro/index.ts');
    const result = await unpackEif({ image: args.image, out: flags.out, onProgress: this.onProgress });
    this.log(`unpacked ${args.image} into ${result.path}`);
    this.log(table(result.files.map((file) => [file.name, size(file.size)])));
    this.log(table(measurementRows(result.measurement)));
    if (result.signature && !result.signature.valid)
      this.note(`note: its signature does not hold: ${printable(result.signature.reason ?? '')}`);
    this.log(`${result.exact ? 'the same image again' : 'an image with the same measurement'}, unsigned:`);
    this.log(`  atoma-tee ${result.pack.map(shellWord).join(' ')} --out FILE`);
    return result;
  }
}

const shellWord = (word: string): string => (/^[\w./=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
