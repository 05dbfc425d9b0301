import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { allowSimulated, endorsements } from '../../cli/flags.ts';

export default class BrokerServe extends BaseCommand {
  static override summary =
    'Serve key releases: verify evidence against the policy in a sealed model, re-wrap its key.';
  static override description = `\
Holds no key but its own: shares travel in the header of the sealed model. With --state it remembers nonces, epochs and
the audit log in a SQLite file, which several processes with the same key may share; without, a restart forgets epochs, and
old headers are released to again. Prints its address on stdout when it is ready; ends on SIGINT or SIGTERM.`;
  static override examples = [
    '<%= config.bin %> broker serve --key broker.key --listen 127.0.0.1:8700 --allow-simulated local',
    '<%= config.bin %> broker serve --key broker.key --listen 0.0.0.0:8700 --state broker.db --audit audit.jsonl --endorsements /etc/atoma-tee/endorsements',
  ];
  static override flags = {
    key: Flags.string({ required: true, helpValue: 'FILE', description: 'broker key (private)' }),
    listen: Flags.string({ default: '127.0.0.1:8700', helpValue: 'HOST:PORT', description: 'port 0 picks a free one' }),
    state: Flags.string({
      helpValue: 'FILE',
      description: 'remember nonces and epochs here (SQLite) [default: in memory]',
    }),
    audit: Flags.string({
      helpValue: 'FILE',
      description: 'audit log: JSON lines, each with the digest of the one before [default: in the state]',
    }),
    owner: Flags.string({
      multiple: true,
      helpValue: 'OWNER.pub',
      description: "serve this owner's models only [default: everybody's that are sealed to this broker]",
    }),
    endorsements,
    'tls-cert': Flags.string({
      helpValue: 'FILE',
      dependsOn: ['tls-key'],
      description: 'serve HTTPS with this certificate (PEM)',
    }),
    'tls-key': Flags.string({ helpValue: 'FILE', dependsOn: ['tls-cert'], description: 'and its key (PEM)' }),
    'allow-simulated': allowSimulated,
  };

  protected override handlesSignals = true;

  async run() {
    const { flags } = await this.parse(BrokerServe);
    const { startBroker } = await import('../../tasks/broker.ts');
    const server = await startBroker({
      key: flags.key,
      listen: flags.listen,
      endorsements: flags.endorsements,
      allowSimulated: flags['allow-simulated'] ?? [],
      state: flags.state,
      audit: flags.audit,
      owners: flags.owner,
      tlsCert: flags['tls-cert'],
      tlsKey: flags['tls-key'],
    });
    if (flags.state === undefined) this.note('no --state: nonces and epochs are in memory, and a restart forgets them');
    if (server.repaired)
      this.note(`the last line of ${flags.audit} was cut off by a crash; what it was about has not been released`);
    if (server.simulatedRoots.length > 0) this.note('SIMULATED evidence is accepted: this broker is for development');
    const ready = { url: server.url, keyId: server.keyId };
    if (this.jsonEnabled()) this.logJson(ready);
    else this.log(`listening on ${server.url} (key ${server.keyId})`);
    await new Promise<void>((resolve) => {
      process.once('SIGINT', resolve);
      process.once('SIGTERM', resolve);
    });
    await server.close();
  }
}
