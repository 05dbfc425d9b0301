import * as Enums from '@cyclonedx/cyclonedx-library/Enums';
import * as Models from '@cyclonedx/cyclonedx-library/Models';
import { PackageURL } from 'packageurl-js';
import { hex, sha256 } from '../core/bytes.ts';
import { entryDigest } from '../image/fetch.ts';
import type { FileEntry, GramineEntry, KernelEntry, OciEntry } from '../image/lock-file.ts';
import { type BomFacts, type FoundPackage, PROPERTY, type StatedEntry } from './facts.ts';
import { licencesOf, statementOf } from './licences.ts';

export type Component = InstanceType<typeof Models.Component>;
type Type = Models.Component['type'];

const { ComponentType: TYPE } = Enums;
const ALGORITHMS = { sha256: Enums.HashAlgorithm['SHA-256'], sha512: Enums.HashAlgorithm['SHA-512'] } as const;
/** LICENSE of this package. */
const OWN_LICENCE = { kind: 'npm', text: 'Apache-2.0' } as const;

interface Rest {
  version?: string;
  ref: string;
  purl?: string;
  description?: string;
  hash?: [keyof typeof ALGORITHMS, string];
  licences?: Models.Component['licenses'];
  /** Without our prefix. */
  properties?: [string, string][];
  /** Contained in it. */
  components?: Component[];
}

export function component(type: Type, name: string, rest: Rest): Component {
  const { version, ref, purl, description, hash, licences, properties = [], components = [] } = rest;
  const sorted = [...properties].sort(([a, x], [b, y]) => order(a, b) || order(x, y));
  return new Models.Component(type, name, {
    bomRef: ref,
    ...(version === undefined ? {} : { version }),
    ...(purl === undefined ? {} : { purl }),
    ...(description === undefined ? {} : { description }),
    ...(licences === undefined ? {} : { licenses: licences }),
    hashes: new Models.HashDictionary(hash ? [[ALGORITHMS[hash[0]], hash[1]]] : []),
    properties: new Models.PropertyRepository(sorted.map(([key, value]) => new Models.Property(PROPERTY + key, value))),
    components: new Models.ComponentRepository(components),
  });
}

/** By code units: the library's own order is the locale's. */
export const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const npmUrl = (name: string, version: string): string => {
  const at = name.lastIndexOf('/');
  return new PackageURL('npm', at < 0 ? undefined : name.slice(0, at), name.slice(at + 1), version).toString();
};

/** A package of the lock. `distro`: Debian's release, under which its security tracker lists it. */
export function packageComponent(entry: StatedEntry): Component {
  const { algorithm, hex: digest } = entryDigest(entry);
  const common = { version: entry.version, hash: [algorithm, digest] as [typeof algorithm, string] };
  const licences = licencesOf(statementOf(entry));
  if (entry.kind === 'npm') {
    const purl = npmUrl(entry.name, entry.version);
    return component(TYPE.Library, entry.name, { ...common, licences, purl, ref: purl });
  }
  const qualifiers = { arch: entry.architecture, distro: entry.suite.replace(/-(backports|updates|security)$/, '') };
  const purl = new PackageURL('deb', 'debian', entry.name, entry.version, qualifiers).toString();
  const isKernel = entry.keep.some(({ part }) => part === 'kernel');
  return component(isKernel ? TYPE.OperatingSystem : TYPE.Library, entry.name, {
    ...{ ...common, licences, purl, ref: purl },
    properties: [
      ['debian-suite', entry.suite],
      ...copyrightDigest(entry),
      // pool/main/g/glibc/libc6_...: the source package, by which Debian reports vulnerabilities.
      ...(entry.path.split('/').length > 4
        ? [['debian-source', entry.path.split('/').at(-2)] as [string, string]]
        : []),
    ],
  });
}

/** Which text a licence in prose refers to. */
const copyrightDigest = ({ licence }: StatedEntry): [string, string][] =>
  licence === null || 'link' in licence ? [] : [['copyright-sha256', hex(sha256(licence.bytes))]];

/** What the toolkit puts into every image: the bundled packages are inside the program. */
export function toolkitParts({ version, init, program, bundled }: BomFacts['toolkit'], nitro: boolean): Component[] {
  const own = (name: string, file: string, sha256: string, description: string, components: Component[] = []) => {
    const purl = new PackageURL('npm', undefined, 'atoma-tee', version, undefined, file).toString();
    const licences = licencesOf(OWN_LICENCE);
    const hash: ['sha256', string] = ['sha256', sha256];
    return component(TYPE.Application, name, { version, ref: purl, purl, hash, licences, description, components });
  };
  const inside = bundled
    .map(({ name, version, license }) => {
      const purl = npmUrl(name, version);
      const licences = licencesOf({ kind: 'npm', text: license });
      return component(TYPE.Library, name, { version, purl, ref: `program/${purl}`, licences });
    })
    .sort((a, b) => order(a.purl ?? '', b.purl ?? ''));
  return [
    own('enclave program', 'dist/enclave/program.mjs', program, 'one file: what is in it comes bundled', inside),
    ...(nitro ? [own('init', 'templates/nitro/init', init, 'the first process of the enclave')] : []),
  ];
}

/** A kernel of the project's own, and the modules that come with it. */
export const fileComponents = (files: FileEntry[]): Component[] =>
  files.map(({ path, sha256 }, i) =>
    component(i === 0 ? TYPE.OperatingSystem : TYPE.DeviceDriver, path, {
      ref: `file:${path}`,
      hash: ['sha256', sha256],
      properties: [['input', path]],
    }),
  );

export const smallKernel = ({ version, sha256, inputs }: KernelEntry): Component =>
  component(TYPE.OperatingSystem, 'linux', {
    ...{ version, ref: `kernel:${sha256}`, hash: ['sha256', sha256] },
    description: "the small kernel: built by this toolkit from Debian's linux-source (docs/nitro.md)",
    licences: licencesOf({ kind: 'npm', text: 'GPL-2.0-only WITH Linux-syscall-note' }),
    properties: [
      ['input', `linux ${version}, small`],
      ['kernel-inputs-sha256', inputs],
    ],
  });

export function gramineParts({ version, libpal, libsysdb }: GramineEntry): Component[] {
  const part = (file: string, sha256: string, description: string) => {
    const purl = new PackageURL('generic', undefined, 'gramine', version, undefined, file).toString();
    return component(TYPE.Library, `gramine ${file.split('/').at(-1)}`, {
      ...(version === undefined ? {} : { version }),
      ...{ purl, ref: purl, hash: ['sha256', sha256], description },
      licences: licencesOf({ kind: 'npm', text: 'LGPL-3.0-or-later' }),
    });
  };
  return [
    part('sgx/libpal.so', libpal.sha256, "Gramine's loader inside the enclave"),
    part('libsysdb.so', libsysdb.sha256, "Gramine's library OS"),
  ];
}

/** The container image below a command, with the packages that are found in it. */
export function containerComponent({ reference, digest, platform }: OciEntry, found: FoundPackage[]): Component {
  const [algorithm, content = ''] = digest.split(':');
  return component(TYPE.Container, reference, {
    ref: `oci:${digest}`,
    description:
      'the container image, and the packages found in the file system that the command gets of it and of includes',
    hash: [algorithm === 'sha512' ? 'sha512' : 'sha256', content],
    properties: [
      ['input', reference],
      ['platform', platform],
    ],
    components: foundComponents(found),
  });
}

/** As their own databases name them; no digest tells that they are what they say. */
export function foundComponents(found: FoundPackage[]): Component[] {
  const unique = new Map<string, Component>();
  for (const each of [...found].sort((a, b) => order(a.path, b.path))) {
    const { type, name, version, architecture, distribution, licence, path } = each;
    const qualifiers = {
      ...(architecture === undefined ? {} : { arch: architecture }),
      ...(distribution === undefined ? {} : { distro: distribution.version }),
    };
    const purl =
      type === 'npm'
        ? npmUrl(name, version)
        : new PackageURL(
            type,
            distribution?.id ?? (type === 'apk' ? 'alpine' : 'debian'),
            name,
            version,
            qualifiers,
          ).toString();
    if (unique.has(purl)) continue;
    const licences = licencesOf(licence);
    unique.set(
      purl,
      component(TYPE.Library, name, {
        version,
        purl,
        ref: `command/${purl}`,
        licences,
        properties: [['found-in', path]],
      }),
    );
  }
  return [...unique.values()].sort((a, b) => order(a.bomRef.value ?? '', b.bomRef.value ?? ''));
}
