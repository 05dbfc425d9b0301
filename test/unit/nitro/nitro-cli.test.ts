import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { describeCertificate } from '../../../src/nitro/describe-certificate.ts';
import {
  bytesPart,
  bytesSource,
  measureEif,
  nitroCliDescription,
  nitroCliMeasurements,
  writeEif,
} from '../../../src/nitro/index.ts';
import { parseJsonExactly, prettyJson } from '../../../src/nitro/serde-json.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { identity, signer } from './certificates.ts';
import { smallEif, withDirectory } from './small.ts';

/**
 * The keys of EifDescribeInfo and what it holds, in the order in which nitro-cli 1.5.0 declares and so prints them. The
 * vectors were printed by the reference's reader through a program that sorted the keys and added some.
 */
function asNitroCliPrints(reference: Record<string, any>): string {
  const { Measurements, SigningCertificate, Metadata, SignatureCheck } = reference;
  const { BuildTime, BuildTool, BuildToolVersion, OperatingSystem, KernelVersion } = Metadata.BuildMetadata;
  const { IssuerName, Algorithm, NotBefore, NotAfter, Signature } = SigningCertificate ?? {};
  const description = {
    EifVersion: reference.EifVersion,
    Measurements,
    IsSigned: SigningCertificate !== null,
    ...(SigningCertificate ? { SigningCertificate: { IssuerName, Algorithm, NotBefore, NotAfter, Signature } } : {}),
    CheckCRC: reference.CheckCRC,
    ...(SigningCertificate ? { SignatureCheck } : {}),
    ImageName: Metadata.ImageName,
    ImageVersion: Metadata.ImageVersion,
    Metadata: {
      ...{ BuildTime, BuildTool, BuildToolVersion, OperatingSystem, KernelVersion },
      DockerInfo: Metadata.DockerInfo,
      ...Metadata.CustomMetadata,
    },
  };
  return JSON.stringify(description, null, 2);
}

describe.skipIf(!haveVectors)('the reference’s images (reference vectors needed)', () => {
  test.each(['v1-one-ramdisk', 'v2-two-ramdisks', 'v3-three-ramdisks-empty-cmdline', 'v4-signed-p384'])(
    '%s: the text of describe-eif, and of build-enclave',
    async (name) => {
      const described = JSON.parse(readFileSync(vectors('eif', `${name}.describe.json`), 'utf8'));
      const image = vectors('eif', `${name}.eif`);
      expect(await nitroCliDescription(image)).toBe(asNitroCliPrints(described));
      // eif_build printed the inner object; build-enclave prints it under "Measurements".
      const built = readFileSync(vectors('eif', `${name}.build.txt`), 'utf8').replace(/^Output file.*\n/, '');
      const text = `{\n  "Measurements": ${built.trim().replaceAll('\n', '\n  ')}\n}`;
      expect(nitroCliMeasurements((await measureEif(image)).measurement)).toBe(text);
    },
  );

  test('a damaged image: CheckCRC and SignatureCheck are false', async () => {
    const bytes = readFileSync(vectors('eif', 'v4-signed-p384.eif'));
    bytes[600] = (bytes[600] ?? 0) ^ 1;
    const found = JSON.parse(await nitroCliDescription(bytesSource(bytes)));
    expect(found).toMatchObject({ IsSigned: true, CheckCRC: false, SignatureCheck: false });
  });
});

/** A description of an image with this metadata section. */
const withMetadata = (metadata: string, options: Partial<Parameters<typeof writeEif>[0]> = {}) =>
  withDirectory(async (dir) => {
    const part = bytesPart(Buffer.from('x'));
    const out = join(dir, 'x.eif');
    const bytes = Buffer.from(metadata);
    await writeEif({ kernel: part, cmdline: '', ramdisks: [part], arch: 'x86_64', metadata: bytes, out, ...options });
    return nitroCliDescription(out);
  });
const BUILD = '{"BuildTime":"t","BuildTool":"b","BuildToolVersion":"1","OperatingSystem":"Linux","KernelVersion":"6"}';
const identityInfo = (docker: string, custom: string) =>
  `{"ImageName":"n","ImageVersion":"v","BuildMetadata":${BUILD},"DockerInfo":${docker},"CustomMetadata":${custom}}`;

describe('metadata', () => {
  test('an image without any has no such keys', () =>
    withDirectory(async (dir) => {
      const part = bytesPart(Buffer.from('x'));
      const out = join(dir, 'x.eif');
      await writeEif({ kernel: part, cmdline: '', ramdisks: [part], arch: 'x86_64', out });
      expect(Object.keys(JSON.parse(await nitroCliDescription(out)))).toEqual([
        'EifVersion',
        'Measurements',
        'IsSigned',
        'CheckCRC',
      ]);
    }));

  test('free JSON in the order and the forms of serde_json', async () => {
    const docker = '{"b":{"10":1,"9":2},"a":[],"c":{},"Size":18446744073709551615,"f":1.0,"é":"\\u00e9/\\u001f"}';
    const text = await withMetadata(identityInfo(docker, '{"z":-9007199254740993,"KernelVersion":"mine"}'));
    expect(text.slice(text.indexOf('    "KernelVersion"'))).toBe(`    "KernelVersion": "6",
    "DockerInfo": {
      "Size": 18446744073709551615,
      "a": [],
      "b": {
        "10": 1,
        "9": 2
      },
      "c": {},
      "f": 1.0,
      "é": "é/\\u001f"
    },
    "KernelVersion": "mine",
    "z": -9007199254740993
  }
}`);
  });

  test('signs that would drive a terminal or turn a line around are escaped; the value stays', async () => {
    const text = await withMetadata(identityInfo('null', '{"x":"\u009b31m\u202e"}'));
    expect(text).not.toMatch(/[\u007f-\u009f\u202e]/);
    expect(JSON.parse(text).Metadata.x).toBe('\u009b31m\u202e');
  });

  test.each([
    ['custom metadata that is no object', identityInfo('null', '[1]')],
    ['a field that is missing', identityInfo('null', 'null').replace('"ImageName":"n",', '')],
    ['a field that is no text', identityInfo('null', 'null').replace('"n"', '1')],
    ['a build that is no object', identityInfo('null', 'null').replace(BUILD, '[]')],
    ['no object', '[]'],
    ['no JSON', '{'],
    ['a number beyond f64', identityInfo('1e999', 'null')],
    ['JSON nested a hundred thousand levels deep', identityInfo('['.repeat(1e5) + ']'.repeat(1e5), 'null')],
  ])('%s: refused, as nitro-cli refuses it', async (_, metadata) => {
    const refused = expect.objectContaining({ code: 'ERR_EIF_METADATA', exitCode: 2 });
    await expect(withMetadata(metadata)).rejects.toThrow(refused);
  });
});

describe('numbers as serde_json prints them', () => {
  test.each([
    ['0', '0'],
    ['-0', '-0.0'],
    ['-5', '-5'],
    ['18446744073709551615', '18446744073709551615'],
    ['18446744073709551616', '1.8446744073709552e19'],
    ['-9223372036854775808', '-9223372036854775808'],
    ['-9223372036854775809', '-9.223372036854776e18'],
    ['0.0', '0.0'],
    ['1.5', '1.5'],
    ['1e2', '100.0'],
    ['123456789012345680.0', '1.2345678901234568e17'],
    ['1e15', '1000000000000000.0'],
    ['1e16', '1e16'],
    ['0.00001', '0.00001'],
    ['0.000001', '1e-6'],
    ['-1.25e-7', '-1.25e-7'],
    ['5e-324', '5e-324'],
    ['1e21', '1e21'],
  ])('%s: %s', (source, text) => {
    expect(prettyJson(parseJsonExactly(source))).toBe(text);
  });
});

describe('certificates', () => {
  const certificateOf = async (name: string, curve: 'P-256' | 'P-384' | 'P-521' = 'P-256') => {
    const { certificate } = await identity({ name, curve, notBefore: '2024-02-03T04:05:06Z' });
    return describeCertificate(new X509Certificate(certificate));
  };

  test('long names of attributes; a day of one digit is padded', async () => {
    const found = await certificateOf('CN=a, O=b, OU=c, C=DE, ST=d, L=e, E=f@example.org, DC=g');
    expect(found?.IssuerName).toEqual({
      commonName: 'a',
      organizationName: 'b',
      organizationalUnitName: 'c',
      countryName: 'DE',
      stateOrProvinceName: 'd',
      localityName: 'e',
      emailAddress: 'f@example.org',
      domainComponent: 'g',
    });
    expect(found?.NotBefore).toBe('Feb  3 04:05:06 2024 GMT');
  });

  test.each([
    ['P-256', 'ecdsa-with-SHA256'],
    ['P-384', 'ecdsa-with-SHA384'],
    ['P-521', 'ecdsa-with-SHA512'],
  ] as const)('%s: %s', async (curve, algorithm) => {
    expect((await certificateOf('CN=x', curve))?.Algorithm).toBe(algorithm);
  });

  test('of several values of one name the last; quotes and backslashes as Rust shows them, quotes dropped', async () => {
    expect((await certificateOf('OU=first, OU=last, CN=a\\"b\\\\c'))?.IssuerName).toEqual({
      organizationalUnitName: 'last',
      commonName: 'a\\b\\\\c',
    });
  });

  const openssl = spawnSync('openssl', ['version']).status === 0;
  test.skipIf(!openssl)('algorithm, times and signature are those that openssl prints (openssl needed)', () =>
    withDirectory(async (dir) => {
      const { certificate } = await identity({ curve: 'P-521' });
      writeFileSync(join(dir, 'crt'), certificate);
      const printed = spawnSync('openssl', ['x509', '-in', join(dir, 'crt'), '-noout', '-text', '-dates'], {
        encoding: 'utf8',
      }).stdout;
      const found = describeCertificate(new X509Certificate(certificate));
      expect(printed).toContain(`Signature Algorithm: ${found?.Algorithm}`);
      expect(printed).toContain(`notBefore=${found?.NotBefore}`);
      expect(printed).toContain(`notAfter=${found?.NotAfter}`);
      expect(printed.replace(/\s/g, '')).toContain(found?.Signature.toLowerCase());
    }),
  );
});

test('an image that we signed is described as signed', async () => {
  const sign = await signer({ curve: 'P-521' });
  const text = await withMetadata(identityInfo('null', 'null'), { sign });
  const found = JSON.parse(text);
  expect(Object.keys(found)).toEqual([
    'EifVersion',
    'Measurements',
    'IsSigned',
    'SigningCertificate',
    'CheckCRC',
    'SignatureCheck',
    'ImageName',
    'ImageVersion',
    'Metadata',
  ]);
  expect(found).toMatchObject({ IsSigned: true, CheckCRC: true, SignatureCheck: true });
  expect(found.Measurements.PCR8).toBe(sign.pcr8);
});

test('something that is no image', async () => {
  const attempt = nitroCliDescription(bytesSource((await smallEif()).subarray(1)));
  await expect(attempt).rejects.toThrow(expect.objectContaining({ code: 'ERR_EIF_MAGIC' }));
});
