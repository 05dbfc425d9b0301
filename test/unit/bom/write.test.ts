import { Spec, Validation } from '@cyclonedx/cyclonedx-library';
import { describe, expect, test } from 'vitest';
import { writeBom } from '../../../src/bom/index.ts';
import { everything } from './facts.ts';

interface Part {
  type: string;
  name: string;
  'bom-ref': string;
  components?: Part[];
  [key: string]: unknown;
}
const validator = new Validation.JsonStrictValidator(Spec.Version.v1dot6);
const parse = (facts = everything()) => JSON.parse(writeBom(facts).toString());
const all = (parts: Part[] = []): Part[] => parts.flatMap((part) => [part, ...all(part.components)]);
const disclosed = {
  files: [{ path: 'weights.onnx', size: 7, sha256: '4d'.repeat(32) }],
  onnx: {
    ...{ irVersion: 8, opsets: [{ domain: 'ai.onnx', version: 17 }], producer: 'maker', producerVersion: '2' },
    inputs: [{ name: 'secret-in', type: 'FLOAT', shape: ['batch', 64] }],
    outputs: [{ name: 'out', type: 'sequence', shape: null }],
    ...{ operators: [{ name: 'Gemm', count: 2 }], parameters: 9611, externalTensors: 1 },
  },
};

describe('a bill of materials', () => {
  test("is valid by CycloneDX's own schema, with the model described or not", async () => {
    expect(await validator.validate(writeBom(everything()).toString())).toBeNull();
    const facts = { ...everything(), model: { digest: '3d'.repeat(32), disclosed } };
    expect(await validator.validate(writeBom(facts).toString())).toBeNull();
    // The validator does look.
    const broken = parse();
    broken.components[0].type = 'fish';
    expect(await validator.validate(JSON.stringify(broken))).not.toBeNull();
  });

  test('tells nothing of the model but its digest, unless it is disclosed', () => {
    const text = writeBom(everything()).toString();
    for (const word of ['modelCard', 'secret-in', 'Gemm', '9611', 'weights']) expect(text).not.toContain(word);
    const model = parse({ ...everything(), model: { digest: '3d'.repeat(32), disclosed } }).components.find(
      ({ type }: Part) => type === 'machine-learning-model',
    );
    expect(model.hashes).toEqual([{ alg: 'SHA-256', content: '3d'.repeat(32) }]);
    expect(model.modelCard.modelParameters).toEqual({
      inputs: [{ format: 'secret-in: FLOAT[batch, 64]' }],
      outputs: [{ format: 'out: sequence' }],
    });
    const properties = model.modelCard.properties.map(({ name, value }: Record<string, string>) => `${name} ${value}`);
    expect(properties).toContain('atoma-tee:onnx-operator Gemm 2');
    expect(properties).toContain('atoma-tee:parameters 9611');
    expect(model.components.map(({ name }: Part) => name)).toEqual(['weights.onnx']);
  });

  test('the same facts in another order give the same bytes; other facts another serial number', () => {
    const shuffled = everything();
    shuffled.packages.reverse();
    shuffled.found.reverse();
    shuffled.toolkit.bundled.reverse();
    expect(writeBom(shuffled).toString()).toBe(writeBom(everything()).toString());
    const { serialNumber, metadata } = parse();
    expect(serialNumber).toMatch(/^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(parse({ ...everything(), timestamp: 1_700_000_001 }).serialNumber).not.toBe(serialNumber);
    expect(metadata.timestamp).toBe('2023-11-14T22:13:20.000Z');
  });

  test('is sorted by code units, whatever the locale', () => {
    const refs = parse().components.map((part: Part) => part['bom-ref']);
    expect(refs).toEqual([...refs].sort());
  });

  test('no part twice, and every dependency leads to a part', () => {
    const { metadata, components, dependencies } = parse();
    const refs = all([metadata.component, ...components]).map((part) => part['bom-ref']);
    expect(new Set(refs).size).toBe(refs.length);
    const named = dependencies.flatMap(({ ref, dependsOn = [] }: { ref: string; dependsOn?: string[] }) => [
      ref,
      ...dependsOn,
    ]);
    expect(new Set(named)).toEqual(new Set(refs));
  });

  test('each image depends on what is in it, and on nothing of the other', () => {
    const { dependencies } = parse();
    const of = (ref: string) => dependencies.find((one: { ref: string }) => one.ref === ref).dependsOn.join('\n');
    expect(of('image:demo.eif')).toMatch(/linux-image(.|\n)*templates\/nitro\/init/);
    expect(of('image:demo.eif')).not.toContain('libpal');
    expect(of('image:demo.manifest.sgx')).toContain('libpal.so');
    expect(of('image:demo.manifest.sgx')).not.toMatch(/linux-image|nitro\/init|bzImage|kernel:/);
    for (const image of ['image:demo.eif', 'image:demo.manifest.sgx']) expect(of(image)).toContain('libstdc%2B%2B6');
    expect(of('pkg:npm/atoma-tee@0.1.0#dist/enclave/program.mjs')).toContain('program/pkg:npm/zod@4.0.0');
  });

  test('packages have purl, hash and licence; images their registers but no signature', () => {
    const { components, metadata } = parse();
    const part = (name: string) => components.find((one: Part) => one.name === name);
    expect(part('libstdc++6')).toMatchObject({
      purl: 'pkg:deb/debian/libstdc%2B%2B6@1:2.0~rc1-3+b1?arch=amd64&distro=bookworm',
      hashes: [{ alg: 'SHA-256', content: 'd1'.repeat(32) }],
      licenses: [{ license: { name: 'see usr/share/doc/libstdc++6/copyright in the package' } }],
    });
    expect(part('linux-image')).toMatchObject({
      type: 'operating-system',
      licenses: [{ license: { id: 'GPL-2.0-only' } }],
    });
    expect(part('@koromix/koffi')).toMatchObject({
      purl: 'pkg:npm/%40koromix/koffi@1.2.3',
      hashes: [{ alg: 'SHA-512', content: Buffer.alloc(64, 14).toString('hex') }],
      licenses: [{ license: { id: 'MIT' } }],
    });
    expect(part('dual').licenses).toEqual([{ expression: '(MIT OR Apache-2.0)' }]);
    expect(part('Upper').licenses).toEqual([{ license: { name: 'BSD, custom' } }]);
    expect(part('oci:example/app:1').components.map(({ purl }: Part) => purl)).toEqual([
      'pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.22',
      'pkg:npm/%40a/b@1.0.0',
    ]);
    const eif = metadata.component.components[0];
    expect(eif.properties.map(({ name }: { name: string }) => name)).toEqual(
      ['pcr0', 'pcr1', 'pcr2'].map((n) => `atoma-tee:${n}`),
    );
  });

  test('the cryptography is of the targets that were built', () => {
    const names = (target: string) =>
      parse({ ...everything(), images: everything().images.filter((image) => image.target === target) })
        .components.filter(({ type }: Part) => type === 'cryptographic-asset')
        .map(({ name }: Part) => name);
    expect(names('nitro')).toEqual(expect.arrayContaining(['AES-256-GCM', 'X-Wing', 'Ed25519', 'ECDSA-P-384-SHA-384']));
    expect(names('nitro')).not.toContain('RSA-3072-PKCS1-SHA-256');
    expect(names('gramine')).toContain('RSA-3072-PKCS1-SHA-256');
    expect(names('gramine')).not.toContain('ECDSA-P-384-SHA-384');
  });
});
