import { hex } from '../../core/bytes.ts';
import { type Check, fail, pass, skipped } from '../../core/check.ts';
import {
  ATTRIBUTE,
  enclaveAttributes,
  type SgxSettings,
  type Sigstruct,
  signerOf,
  verifySigstruct,
} from '../../gramine/index.ts';

/** A SIGSTRUCT by itself: the signature, and what the CPU needs to check it. */
export function sigstructChecks(sigstruct: Sigstruct): Check[] {
  const { signature, quotients } = verifySigstruct(sigstruct);
  return [
    signature
      ? pass('sigstruct.signature', `by MRSIGNER ${signerOf(sigstruct.modulus)}, dated ${sigstruct.date}`)
      : fail('sigstruct.signature', { detail: 'it is not the signature of these fields by this modulus' }),
    quotients
      ? pass('sigstruct.quotients')
      : fail('sigstruct.quotients', { detail: 'Q1 and Q2 do not belong to the signature: no CPU would start it' }),
  ];
}

/** That an enclave is no DEBUG one, by its attributes as they are signed or as its manifest asks for. */
export function debugCheck({ flags, flagsMask }: Pick<Sigstruct, 'flags' | 'flagsMask'>, acceptDebug: boolean): Check {
  const debug = (flags & ATTRIBUTE.debug) !== 0n;
  const open = (flagsMask & ATTRIBUTE.debug) === 0n;
  if (!debug && !open) return pass('measurement.production', 'not a DEBUG enclave, and cannot be started as one');
  const detail = debug
    ? 'DEBUG enclave: whoever runs it can read its memory'
    : 'it can be started as a DEBUG enclave: the mask of its attributes leaves that open';
  // Said beside the verdict in either case.
  return acceptDebug
    ? skipped('measurement.debug', `${detail} (--accept-debug)`)
    : fail('measurement.debug', { detail });
}

/** Whether a SIGSTRUCT says of the enclave what Gramine's signer would say for these settings of its manifest. */
export function settingsChecks(sigstruct: Sigstruct, settings: SgxSettings): Check[] {
  const { isvprodid, isvsvn } = settings;
  const zero = { cetAttributes: 0, cetAttributesMask: 0 };
  const expected = { ...enclaveAttributes(settings), isvprodid, isvsvn, ...zero };
  const none = '00'.repeat(16);
  const pairs: [name: string, expected: string, actual: string][] = [
    ...Object.entries(expected).map(([name, value]): [string, string, string] => [
      name,
      shown(value),
      shown(sigstruct[name as keyof typeof expected]),
    ]),
    ['isvfamilyid', none, hex(sigstruct.isvfamilyid)],
    ['isvextprodid', none, hex(sigstruct.isvextprodid)],
  ];
  const different = pairs.filter(([, expected, actual]) => expected !== actual);
  if (different.length === 0) {
    return [pass('sigstruct.settings', 'attributes, masks, ISVPRODID and ISVSVN are those of the manifest')];
  }
  return different.map(([name, expected, actual]) =>
    fail(`sigstruct.${name.toLowerCase()}`, { expected, actual, detail: 'the manifest has other settings' }),
  );
}

const shown = (value: number | bigint): string =>
  typeof value === 'bigint' ? `0x${value.toString(16)}` : String(value);
