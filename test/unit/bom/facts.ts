import type { BomFacts } from '../../../src/bom/facts.ts';

const hex = (byte: string, bytes = 32) => byte.repeat(bytes);
const npm = (name: string, json: object) => ({
  ...{ kind: 'npm' as const, name, version: '1.2.3', allow: '1', tree: hex('00') },
  integrity: `sha512-${Buffer.alloc(64, name.length).toString('base64')}`,
  keep: [{ from: 'a', to: 'a', part: 'root' as const }],
  licence: { path: 'package.json', bytes: Buffer.from(JSON.stringify(json)) },
});
const deb = (name: string, copyright: string, part: 'root' | 'kernel' = 'root') => ({
  ...{
    kind: 'deb' as const,
    name,
    version: '1:2.0~rc1-3+b1',
    architecture: 'amd64' as const,
    suite: 'bookworm-updates',
  },
  ...{ path: `pool/main/s/source/${name}_2.0_amd64.deb`, size: 1, sha256: hex('d1'), tree: hex('00') },
  keep: [{ from: 'a', to: 'a', part }],
  licence: { path: `usr/share/doc/${name}/copyright`, bytes: Buffer.from(copyright) },
});

/** One of everything that an image can have. */
export const everything = (): BomFacts => ({
  project: { name: 'demo', version: '2.0.0' },
  timestamp: 1_700_000_000,
  toolkit: {
    ...{ version: '0.1.0', init: hex('01'), program: hex('02') },
    bundled: [
      { name: 'zod', version: '4.0.0', license: 'MIT' },
      { name: '@scope/own', version: '1.0.0', license: 'SEE LICENSE IN ./LICENSE' },
    ],
  },
  images: [
    {
      ...{ target: 'nitro', file: 'demo.eif', size: 1, sha256: hex('a1'), parts: [] },
      measurement: { tee: 'nitro', pcr0: hex('b0', 48), pcr1: hex('b1', 48), pcr2: hex('b2', 48), pcr8: hex('b8', 48) },
    },
    {
      ...{ target: 'gramine', file: 'demo.manifest.sgx', size: 1, sha256: hex('a2'), parts: [], files: [] },
      measurement: { tee: 'sgx', mrenclave: hex('c0'), mrsigner: hex('c1'), isvprodid: 0, isvsvn: 3 },
      sigstruct: { file: 'demo.sig', size: 1808, sha256: hex('a3') },
      libpal: { size: 1, sha256: hex('e1') },
      libsysdb: { size: 1, sha256: hex('e2') },
    },
  ],
  packages: [
    npm('@koromix/koffi', { license: 'MIT' }),
    npm('dual', { license: '(MIT OR Apache-2.0)' }),
    npm('Upper', { licenses: [{ type: 'BSD' }, { type: 'custom' }] }),
    deb('libstdc++6', 'in prose'),
    deb(
      'linux-image',
      'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2\n',
      'kernel',
    ),
  ],
  files: [
    { path: '../boot/bzImage', size: 1, sha256: hex('f1') },
    { path: 'nsm.ko', size: 1, sha256: hex('f2') },
  ],
  oci: { reference: 'oci:example/app:1', platform: 'linux/amd64', digest: `sha256:${hex('0c')}`, tree: hex('00') },
  found: [
    {
      ...{ type: 'apk', name: 'musl', version: '1.2.5-r0', architecture: 'x86_64', path: '/lib/apk/db/installed' },
      ...{ distribution: { id: 'alpine', version: 'alpine-3.22' }, licence: { kind: 'apk', text: 'MIT' } },
    },
    {
      ...{ type: 'npm', name: '@a/b', version: '1.0.0', path: '/app/node_modules/@a/b/package.json' },
      licence: { kind: 'npm', text: '' },
    },
  ],
  kernel: { version: '6.12.90', inputs: hex('1a'), size: 1, sha256: hex('1b') },
  gramine: {
    ...{ from: 'system', version: '1.9' },
    libpal: { size: 1, sha256: hex('e1') },
    libsysdb: { size: 1, sha256: hex('e2') },
  },
  model: { digest: hex('3d') },
});
