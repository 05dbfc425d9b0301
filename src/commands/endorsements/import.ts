import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { printable } from '../../core/printable.ts';

export default class EndorsementsImport extends BaseCommand {
  static override summary = 'Put what vendors said of machines into a directory that --endorsements takes.';
  static override description = `\
Takes recorded answers of Intel's PCS or a PCCS (TCB info, QE identity, certificate chains, revocation lists, collateral in
one JSON object) and of AMD's KDS (VCEK, VLEK, chains, lists). Fetches nothing and verifies nothing: whoever uses them does
that, at their time. Importing twice changes nothing; older ones stay for older evidence.`;
  static override examples = [
    '<%= config.bin %> endorsements import tcb-info.json qe-identity.json root-ca.crl pck.crl --out endorsements',
    '<%= config.bin %> endorsements import vcek.der cert_chain.pem --out endorsements',
  ];
  static override strict = false;
  static override args = { file: Args.string({ required: true, description: 'one or more recorded answers' }) };
  static override flags = {
    out: Flags.string({ required: true, helpValue: 'DIR', description: 'directory; made if it is not there' }),
  };

  async run() {
    const { argv, flags } = await this.parse(EndorsementsImport);
    const { importEndorsements } = await import('../../tasks/endorsements-import.ts');
    const endorsements = await importEndorsements(argv as string[], flags.out);
    if (!this.jsonEnabled()) {
      for (const { kind, of, until, path, added } of endorsements) {
        const what = `${kind.replaceAll('-', ' ')} of ${printable(of)}, until ${until.slice(0, 10)}`;
        this.log(`${added ? 'added' : 'had  '}  ${what}\n       ${printable(path)}`);
      }
    }
    return { endorsements };
  }
}
