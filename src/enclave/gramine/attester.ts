import { parseQuote } from '../../attest/dcap/quote.ts';
import { isDebug } from '../../attest/dcap/quote-checks.ts';
import type { SgxReport } from '../../attest/dcap/report.ts';
import { equalBytes, hex } from '../../core/bytes.ts';
import { missingError } from '../../core/errors.ts';
import type { EnclaveAttester } from '../attester.ts';
import type { Channel } from '../channel.ts';
import { say } from '../log.ts';
import { deviceError, type GramineDevice } from './device.ts';

/**
 * The attester under Gramine. With SGX beneath it, quotes over the caller's report data; a first one, over nothing, shows
 * before anything else that the machine can make them, and tells the console what was measured. gramine-direct has no TEE
 * beneath it: the launcher's simulated attester speaks, under its own name. So it does where the manifest, which is
 * measured, asks for no remote attestation.
 *
 * Throws `ERR_ATTESTER`: a device that is there and does not work is not passed over.
 */
export function createGramineAttester(
  device: GramineDevice,
  channel: Pick<Channel, 'attest' | 'lock'>,
): EnclaveAttester {
  const type = device.attestationType();
  if (type === undefined || type === 'none') {
    const why = type === undefined ? 'no SGX under this Gramine' : 'sgx.remote_attestation is "none"';
    say(`${why}: SIMULATED evidence`);
    return {
      tee: 'simulated',
      securityMode: 'evaluation',
      attest: (request) => channel.attest(request),
      lock: () => channel.lock(),
    };
  }
  if (type !== 'dcap') throw attesterError(`expected the attestation type dcap or none, found ${JSON.stringify(type)}`);
  const { report, debug } = readQuote(device, Buffer.alloc(64));
  for (const register of ['mrenclave', 'mrsigner'] as const) say(`${register.toUpperCase()} ${hex(report[register])}`);
  if (debug) say('this enclave runs in debug mode: it protects nothing');
  return {
    tee: 'sgx',
    securityMode: debug ? 'evaluation' : 'production',
    async attest({ reportData }) {
      if (reportData === undefined) throw new TypeError('SGX evidence binds its report data only');
      return readQuote(device, reportData).quote;
    },
    // SGX has nothing that an enclave could extend: code that runs later in it can ask again (docs/threat-model.md).
    lock: async () => {},
  };
}

interface OwnQuote {
  quote: Buffer;
  report: SgxReport;
  debug: boolean;
}

/** A quote that says what it was asked to say: what a broker would refuse is refused here, with better words. */
function readQuote(device: GramineDevice, reportData: Uint8Array): OwnQuote {
  const quote = device.quote(reportData);
  let body: ReturnType<typeof parseQuote>['body'];
  try {
    ({ body } = parseQuote(quote));
  } catch (error) {
    throw deviceError('quote', error);
  }
  if (body.tee !== 'sgx') throw attesterError('expected a quote of an SGX enclave, found one of a TDX domain');
  if (!equalBytes(body.report.reportData, reportData)) {
    throw attesterError('expected a quote over the report data that was written, found one over something else');
  }
  return { quote, report: body.report, debug: isDebug(body) };
}

const attesterError = (why: string) => missingError('ERR_ATTESTER', `/dev/attestation: ${why}`);
