import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/base.ts';
import { allowSimulated, endorsements } from '../../cli/flags.ts';

export default class BrokerServe extends BaseCommand {
  static override summary =
    'Serve key releases: verify evidence against the policy in a sealed model, re-wrap its key.';
  static override description = `\
Holds no key but its own: shares travel in the header of the sealed model. Nonces, epochs and the audit log are in
memory so far: a restart forgets epochs. Prints its address on stdout when it is ready; ends on SIGINT or SIGTERM.`;
  static override examples = [
    '<%= config.bin %> broker serve --key broker.key --listen 127.0.0.1:8700 --allow-simulated local',
    '<%= config.bin %> broker serve --key broker.key --listen 0.0.0.0:8700 --endorsements /etc/atoma-tee/endorsements',
  ];
  static override flags = {
    key: Flags.string({ required: true, helpValue: 'FILE', description: 'broker key (private)' }),
    listen: Flags.string({ default: '127.0.0.1:8700', helpValue: 'HOST:PORT', description: 'port 0 picks a free one' }),
    endorsements,
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
    });
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
