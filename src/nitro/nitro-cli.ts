import { usageError } from '../core/errors.ts';
import type { NitroMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import { describeCertificate } from './describe-certificate.ts';
import { Entries, parseJsonExactly, prettyJson } from './serde-json.ts';
import { checkSignature } from './signature.ts';
import type { EifSource } from './source.ts';
import { streamEif } from './stream.ts';

/**
 * The text that `nitro-cli build-enclave` and `sign-eif` 1.5.0 print, without the last newline: EnclaveBuildInfo of its
 * src/common/json_output.rs.
 */
export const nitroCliMeasurements = (measurement: NitroMeasurement): string =>
  prettyJson({ Measurements: registers(measurement) });

const registers = ({ pcr0, pcr1, pcr2, pcr8 }: NitroMeasurement): Record<string, string> => ({
  HashAlgorithm: 'Sha384 { ... }',
  PCR0: pcr0,
  PCR1: pcr1,
  PCR2: pcr2,
  ...(pcr8 === undefined ? {} : { PCR8: pcr8 }),
});

/**
 * The text that `nitro-cli describe-eif` 1.5.0 prints, without the last newline: EifDescribeInfo of the same
 * file, keys in the order of the structs, free JSON in alphabetical order.
 *
 * Where nitro-cli gives up on a signature that does not verify, this says `"SignatureCheck": false`, which nitro-cli says
 * only of one over another PCR0. Throws as `streamEif`, and `ERR_EIF_METADATA` (exit 2) for metadata that nitro-cli does
 * not read.
 */
export async function nitroCliDescription(image: string | EifSource, onProgress?: OnProgress): Promise<string> {
  const measured = await streamEif(image, { onProgress, fileDigests: [] });
  const { layout, crc, measurement, signature } = measured;
  const certificate = signature && describeCertificate(signature.certificate);
  const metadata = measured.metadata && readMetadata(measured.metadata);
  return prettyJson(
    new Entries([
      // A number is written by its text.
      ['EifVersion', parseJsonExactly(String(layout.version))],
      ['Measurements', registers(measurement)],
      ['IsSigned', signature !== null],
      ...(certificate ? [['SigningCertificate', new Entries(Object.entries(certificate))] as [string, unknown]] : []),
      ['CheckCRC', crc.ok],
      ...(signature
        ? [['SignatureCheck', checkSignature(signature, measurement.pcr0).valid] as [string, unknown]]
        : []),
      ...(metadata ?? []),
    ]),
  );
}

const BUILD_FIELDS = ['BuildTime', 'BuildTool', 'BuildToolVersion', 'OperatingSystem', 'KernelVersion'];

/** EifIdentityInfo as it is read, MetadataDescribeInfo as it is printed. */
function readMetadata(bytes: Uint8Array): [string, unknown][] {
  const metadata = parse(bytes);
  const build = record(metadata.BuildMetadata, 'BuildMetadata');
  const custom = field(metadata, 'CustomMetadata');
  return [
    ['ImageName', text(metadata, 'ImageName')],
    ['ImageVersion', text(metadata, 'ImageVersion')],
    [
      'Metadata',
      new Entries([
        ...BUILD_FIELDS.map((name): [string, unknown] => [name, text(build, name)]),
        ['DockerInfo', field(metadata, 'DockerInfo')],
        // They stand beside the others, not under a key of their own.
        ...(custom === null ? [] : sorted(record(custom, 'CustomMetadata'))),
      ]),
    ],
  ];
}

function parse(bytes: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = parseJsonExactly(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw usageError('ERR_EIF_METADATA', 'expected the metadata section to be JSON that nitro-cli reads', { cause });
  }
  return record(value, 'metadata section');
}

function record(value: unknown, name: string): Record<string, unknown> {
  const plain = typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
  if (!plain) throw unreadable(name, 'an object');
  return value as Record<string, unknown>;
}

function field(of: Record<string, unknown>, name: string): unknown {
  if (!Object.hasOwn(of, name)) throw unreadable(name, 'there');
  return of[name];
}

function text(of: Record<string, unknown>, name: string): string {
  const value = field(of, name);
  if (typeof value !== 'string') throw unreadable(name, 'text');
  return value;
}

const sorted = (of: Record<string, unknown>): [string, unknown][] =>
  Object.entries(of).sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));

const unreadable = (name: string, what: string) =>
  usageError('ERR_EIF_METADATA', `nitro-cli describes no such image: expected ${name} to be ${what}`, {
    hint: 'inspect it without --nitro-cli',
  });
