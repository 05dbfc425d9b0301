import { chmodSync, linkSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { decodeCbor } from '../../../src/core/cbor.ts';
import { writeKeyFiles } from '../../../src/keys/index.ts';
import {
  bytesPart,
  bytesSource,
  inspectEif,
  measureEif,
  packEif,
  readSigner,
  readSignerFiles,
  signEif,
  streamEif,
  writeEif,
} from '../../../src/nitro/index.ts';
import { encodeSignatureSection, parseSignatureSection } from '../../../src/nitro/signature.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { CURVES, type Curve, identity, signer } from './certificates.ts';
import { smallEif, withDirectory } from './small.ts';

const code = (value: string, exitCode: number) => expect.objectContaining({ code: value, exitCode });
const RAW_BYTES = { 'P-256': 64, 'P-384': 96, 'P-521': 132 };
const PROTECTED = { 'P-256': 'a10126', 'P-384': 'a1013822', 'P-521': 'a1013823' };

/** The bytes of an image's last section, which must be its signature. */
async function signatureSection(bytes: Buffer): Promise<Buffer> {
  const { sections } = await measureEif(bytesSource(bytes));
  const last = sections.at(-1);
  expect(last?.type).toBe('signature');
  return bytes.subarray(last?.offset, (last?.offset ?? 0) + (last?.size ?? 0));
}

/** Every size and the CRC, recomputed from the bytes without the reader. */
function requireConsistent(bytes: Buffer): void {
  const count = bytes.readUInt16BE(26);
  let at = 548;
  for (let i = 0; i < count; i++) {
    expect(Number(bytes.readBigUInt64BE(28 + 8 * i))).toBe(at);
    expect(bytes.readBigUInt64BE(284 + 8 * i)).toBe(bytes.readBigUInt64BE(at + 4));
    at += 12 + Number(bytes.readBigUInt64BE(at + 4));
  }
  expect(at).toBe(bytes.length);
  expect(bytes.readUInt32BE(544)).toBe(crc32(bytes.subarray(548), crc32(bytes.subarray(0, 544))));
}

const writeSigned = (dir: string, options: Partial<Parameters<typeof writeEif>[0]> = {}) =>
  writeEif({
    kernel: bytesPart(Buffer.from('kernel')),
    cmdline: 'console=ttyS0',
    ramdisks: [bytesPart(Buffer.from('first')), bytesPart(Buffer.from('second'))],
    arch: 'x86_64',
    out: join(dir, 'x.eif'),
    ...options,
  });

describe.skipIf(!haveVectors)('v4-signed-p384 (reference vectors needed)', () => {
  const input = (name: string) => vectors('eif', 'inputs', name);
  const reference = haveVectors ? readFileSync(vectors('eif', 'v4-signed-p384.eif')) : Buffer.alloc(0);
  const inputs = async (dir: string) => {
    const { metadata } = await measureEif(bytesSource(reference));
    writeFileSync(join(dir, 'metadata'), metadata ?? '');
    return {
      kernel: input('kernel-b.bin'),
      ramdisks: [input('ramdisk-1.bin'), input('ramdisk-2.bin')],
      cmdline: 'reboot=k panic=30',
      arch: 'x86_64' as const,
      metadata: join(dir, 'metadata'),
      out: join(dir, 'out.eif'),
    };
  };
  const now = new Date('2027-01-01');
  const files = { certificate: input('sign-cert.pem'), key: input('sign-key.pem'), now };

  test('with the ECDSA bytes of the reference in place of ours, the whole file is the same', () =>
    withDirectory(async (dir) => {
      const { sign1 } = parseSignatureSection(await signatureSection(reference));
      const ours = await readSignerFiles(files);
      // Our own envelope up to the 96 bytes of r and s, theirs from there.
      const section = (pcr0: string) => {
        const own = parseSignatureSection(ours.section(pcr0));
        return encodeSignatureSection(own.pem, Buffer.concat([own.sign1.subarray(0, -96), sign1.subarray(-96)]));
      };
      const { path } = await packEif({ ...(await inputs(dir)), sign: { ...ours, section } });
      expect(readFileSync(path).equals(reference)).toBe(true);
    }));

  test('signed by us, everything but the ECDSA bytes, the section size and the CRC is the same', () =>
    withDirectory(async (dir) => {
      const packed = await packEif({ ...(await inputs(dir)), sign: await readSignerFiles(files) });
      const bytes = readFileSync(packed.path);
      requireConsistent(bytes);
      const [own, theirs] = [await signatureSection(bytes), await signatureSection(reference)].map(
        parseSignatureSection,
      );
      expect(own?.pem).toEqual(theirs?.pem);
      expect(own?.sign1.length).toBe(theirs?.sign1.length);
      expect(own?.sign1.subarray(0, -96)).toEqual(theirs?.sign1.subarray(0, -96));
      const body = reference.length - (await signatureSection(reference)).length - 12;
      expect(bytes.subarray(548, body)).toEqual(reference.subarray(548, body));
      const table = (image: Buffer) => image.subarray(0, 284 + 8 * 5);
      expect(table(bytes)).toEqual(table(reference));
      const described = JSON.parse(readFileSync(vectors('eif', 'v4-signed-p384.describe.json'), 'utf8'));
      expect(packed.measurement.pcr8).toBe(described.Measurements.PCR8);
      expect((await inspectEif(packed.path)).signature).toMatchObject({ valid: true });
    }));

  test('the reference signs with a random nonce: its r and s are not ours', async () => {
    const { sign1 } = parseSignatureSection(await signatureSection(reference));
    const { measurement } = await measureEif(bytesSource(reference));
    const ours = parseSignatureSection((await readSignerFiles(files)).section(measurement.pcr0));
    expect(ours.sign1.subarray(-96).equals(sign1.subarray(-96))).toBe(false);
  });

  test('re-signed with P-256 and back, it is the reference but for the ECDSA bytes', () =>
    withDirectory(async (dir) => {
      const image = join(dir, 'x.eif');
      writeFileSync(image, reference);
      const p256 = { certificate: input('sign-cert-p256.pem'), key: input('sign-key-p256.pem'), now };
      await signEif({ image, sign: await readSignerFiles(p256) });
      expect((await inspectEif(image)).signature).toMatchObject({ valid: true, subject: 'CN=p256' });
      await signEif({ image, sign: await readSignerFiles(files) });
      const bytes = readFileSync(image);
      requireConsistent(bytes);
      const body = reference.length - (await signatureSection(reference)).length - 12;
      expect(bytes.subarray(548, body)).toEqual(reference.subarray(548, body));
    }));
});

describe.each(CURVES)('%s', (curve) => {
  test('a signed image: COSE algorithm of the curve, PCR8, valid', () =>
    withDirectory(async (dir) => {
      const sign = await signer({ curve });
      const { path, measurement, parts } = await writeSigned(dir, { sign });
      const bytes = readFileSync(path);
      requireConsistent(bytes);
      expect(measurement.pcr8).toBe(sign.pcr8);
      expect(parts.map(({ name }) => name)).toEqual(['kernel', 'cmdline', 'ramdisk0', 'ramdisk1']);
      expect((await inspectEif(path)).signature).toMatchObject({ valid: true, subject: 'CN=test signer' });
      const { sign1 } = parseSignatureSection(await signatureSection(bytes));
      const what = 'signature';
      const [header, unprotected, payload, signature] = decodeCbor(sign1, { what, maxBytes: 1000 }) as any[];
      expect(Buffer.from(header).toString('hex')).toBe(PROTECTED[curve]);
      expect(unprotected.size).toBe(0);
      expect(Buffer.from(payload.subarray(0, 33)).toString('latin1')).toBe(
        '\xa2\x6eregister_index\x00\x6eregister_value\x98',
      );
      expect(signature.length).toBe(RAW_BYTES[curve]);
    }));

  test.each<Curve>([...CURVES])('signed again with %s: every size follows', (other) =>
    withDirectory(async (dir) => {
      const { path: image } = await writeSigned(dir, { sign: await signer({ curve }) });
      const before = await measureEif(image);
      const sign = await signer({ curve: other });
      const { path, measurement } = await signEif({ image, sign });
      expect(path).toBe(image);
      requireConsistent(readFileSync(image));
      expect(measurement).toEqual({ ...before.measurement, pcr8: sign.pcr8 });
      expect((await measureEif(image)).sections.filter(({ type }) => type === 'signature')).toHaveLength(1);
      expect((await inspectEif(image)).signature).toMatchObject({ valid: true });
      expect(readdirSync(dir)).toEqual(['x.eif']);
    }),
  );
});

describe('signEif', () => {
  test('an unsigned image with --out: the original stays, and unsigned bytes are the same', () =>
    withDirectory(async (dir) => {
      const image = join(dir, 'x.eif');
      const original = await smallEif();
      writeFileSync(image, original);
      const out = join(dir, 'signed.eif');
      await signEif({ image, sign: await signer(), out });
      expect(readFileSync(image)).toEqual(original);
      const signed = readFileSync(out);
      requireConsistent(signed);
      expect(signed.subarray(548, original.length)).toEqual(original.subarray(548));
    }));

  test('the architecture, and hints in the header that another builder wrote, stay', () =>
    withDirectory(async (dir) => {
      const image = join(dir, 'x.eif');
      const bytes = await smallEif();
      bytes.writeBigUInt64BE(1n << 31n, 8);
      bytes.writeBigUInt64BE(7n, 16);
      bytes.writeUInt16BE(1, 6);
      bytes.writeUInt32BE(crc32(bytes.subarray(548), crc32(bytes.subarray(0, 544))), 544);
      writeFileSync(image, bytes);
      await signEif({ image, sign: await signer() });
      const { layout } = await measureEif(image);
      expect(layout).toMatchObject({ defaultMem: 1n << 31n, defaultCpus: 7n, arch: 'aarch64', version: 4 });
    }));

  test.each([2, 3])('an image of format version %d becomes version 4, with the same registers', (version) =>
    withDirectory(async (dir) => {
      const { path: image } = await writeSigned(dir);
      const bytes = readFileSync(image);
      bytes.writeUInt16BE(version, 4);
      bytes.writeUInt32BE(crc32(bytes.subarray(548), crc32(bytes.subarray(0, 544))), 544);
      writeFileSync(image, bytes);
      const before = await measureEif(image);
      expect(before.layout.version).toBe(version);
      const { measurement } = await signEif({ image, sign: await signer() });
      expect(measurement).toMatchObject(before.measurement);
      expect((await measureEif(image)).layout.version).toBe(4);
    }),
  );

  test('in place through a link: the image is replaced, the link stays, and so does the mode', () =>
    withDirectory(async (dir) => {
      const { path: image } = await writeSigned(dir);
      chmodSync(image, 0o640);
      symlinkSync('x.eif', join(dir, 'link.eif'));
      await signEif({ image: join(dir, 'link.eif'), sign: await signer() });
      expect(readdirSync(dir).sort()).toEqual(['link.eif', 'x.eif']);
      expect((await inspectEif(image)).signature).toMatchObject({ valid: true });
      expect(statSync(image).mode & 0o777).toBe(0o640);
    }));

  test('in place, whoever has the old file open or linked keeps the old image', () =>
    withDirectory(async (dir) => {
      const { path: image } = await writeSigned(dir);
      const before = readFileSync(image);
      linkSync(image, join(dir, 'kept.eif'));
      await signEif({ image, sign: await signer() });
      expect(readFileSync(join(dir, 'kept.eif'))).toEqual(before);
    }));

  test('a signature section that cannot be read is replaced', () =>
    withDirectory(async (dir) => {
      const { path: image } = await writeSigned(dir, {
        sign: await signer(),
      });
      const bytes = readFileSync(image);
      (await signatureSection(bytes)).fill(0xff);
      bytes.writeUInt32BE(crc32(bytes.subarray(548), crc32(bytes.subarray(0, 544))), 544);
      writeFileSync(image, bytes);
      await expect(measureEif(image)).rejects.toThrow(code('ERR_EIF_SIGNATURE', 2));
      expect(await inspectEif(image)).toMatchObject({ crc: { ok: true }, signature: { valid: false } });
      await signEif({ image, sign: await signer() });
      expect((await inspectEif(image)).signature).toMatchObject({ valid: true });
    }));

  test('a damaged image is not signed, and stays as it was', () =>
    withDirectory(async (dir) => {
      const { path: image } = await writeSigned(dir);
      const bytes = readFileSync(image);
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      writeFileSync(image, bytes);
      const attempt = signEif({ image, sign: await signer() });
      await expect(attempt).rejects.toThrow(code('ERR_EIF_CRC', 3));
      expect(readFileSync(image)).toEqual(bytes);
      expect(readdirSync(dir)).toEqual(['x.eif']);
    }));

  test('an image of 32 sections has no room for a signature: refused, nothing left', () =>
    withDirectory(async (dir) => {
      const ramdisks = new Array(30).fill(bytesPart(Buffer.from('x')));
      const sign = await signer();
      await expect(writeSigned(dir, { ramdisks, sign })).rejects.toThrow(code('ERR_EIF_SECTIONS', 2));
      expect(readdirSync(dir)).toEqual([]);
      const { path: image } = await writeSigned(dir, { ramdisks });
      await expect(signEif({ image, sign })).rejects.toThrow(code('ERR_EIF_SECTIONS', 2));
      expect(readdirSync(dir)).toEqual(['x.eif']);
    }));

  test('a signer whose signature does not hold (a faulty key store): refused, nothing left', () =>
    withDirectory(async (dir) => {
      const good = await signer();
      const sign = { ...good, section: () => good.section('00'.repeat(48)) };
      await expect(writeSigned(dir, { sign })).rejects.toThrow(code('ERR_EIF_UNVERIFIED', 3));
      expect(readdirSync(dir)).toEqual([]);
    }));

  test('an image large enough for worker threads is signed over what was written', () =>
    withDirectory(async (dir) => {
      const ramdisks = [bytesPart(Buffer.alloc(3 << 20, 1)), bytesPart(Buffer.alloc(9 << 20, 2))];
      const { path: image, measurement } = await writeSigned(dir, { ramdisks, sign: await signer() });
      requireConsistent(readFileSync(image));
      const again = await signEif({ image, sign: await signer({ curve: 'P-521' }) });
      requireConsistent(readFileSync(image));
      expect(again.measurement.pcr0).toBe(measurement.pcr0);
      const seen: string[] = [];
      await streamEif(image, {
        onSection: ({ type }) => {
          seen.push(type);
          return undefined;
        },
      });
      expect(seen).toEqual(['kernel', 'cmdline', 'ramdisk', 'ramdisk', 'signature']);
    }));
});

test('the files of `keygen --type eif` sign', () =>
  withDirectory(async (dir) => {
    const key = join(dir, 'eif.key');
    const { certificate = '' } = await writeKeyFiles('eif', key);
    const { measurement, path } = await writeSigned(dir, { sign: await readSignerFiles({ certificate, key }) });
    expect(measurement.pcr8).toMatch(/^[0-9a-f]{96}$/);
    expect((await inspectEif(path)).signature).toMatchObject({ valid: true });
  }));

test('a certificate file with a chain and text around it goes into the image verbatim; PCR8 is of the first', async () => {
  const [first, second] = [await identity(), await identity({ name: 'CN=issuer' })];
  const text = Buffer.concat([Buffer.from('subject=CN = test signer\n'), first.certificate, second.certificate]);
  const sign = readSigner(text, first.key);
  expect(sign.pcr8).toBe(readSigner(first.certificate, first.key).pcr8);
  expect(parseSignatureSection(sign.section('00'.repeat(48))).pem).toEqual(text);
});
