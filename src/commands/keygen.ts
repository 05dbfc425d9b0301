import { Flags } from '@oclif/core';
import { BaseCommand } from '../cli/base.ts';
import { table } from '../cli/table.ts';

const TYPES = ['owner', 'broker', 'recovery', 'build', 'sgx', 'eif'] as const;

export default class Keygen extends BaseCommand {
  static override summary = 'Make a key pair: FILE (0600) and FILE.pub.';
  static override description = `\
owner      Ed25519: signs sealed models; its public half is measured into images
broker     X-Wing (ML-KEM-768 + X25519): opens shares of content keys
recovery   X-Wing: opens a sealed model without any broker; keep it offline
build      P-256: signs build manifests
sgx        RSA-3072, e = 3: signs SGX enclaves
eif        P-384 with a self-signed certificate FILE.crt: signs Nitro images`;
  static override examples = [
    '<%= config.bin %> keygen --type owner --out owner',
    '<%= config.bin %> keygen --type broker --out broker.key --json',
  ];
  static override flags = {
    type: Flags.option({ options: TYPES, required: true, description: 'what the key is for' })(),
    out: Flags.string({ required: true, helpValue: 'FILE', description: 'private key file; must not exist yet' }),
  };

  async run() {
    const { flags } = await this.parse(Keygen);
    const { writeKeyFiles } = await import('../keys/generate.ts');
    const written = await writeKeyFiles(flags.type, flags.out);
    this.log(`made a new ${flags.type} key`);
    this.log(
      table([
        ['private', `${written.private} (0600; never leaves this machine)`],
        ['public', written.public],
        ...(written.certificate ? ([['certificate', written.certificate]] as [string, string][]) : []),
        ['id', written.id],
      ]),
    );
    return written;
  }
}
