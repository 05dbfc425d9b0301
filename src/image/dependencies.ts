import { entryDigest } from './fetch.ts';
import { type GramineEntry, type Lock, type LockEntry, lockEntries } from './lock-file.ts';

/** Every input of a lock as an in-toto ResourceDescriptor: package URL or name, and digest. */
export function lockDependencies(lock: Lock) {
  const { version, init, program } = lock.toolkit;
  const own = (file: string, sha256: string) => ({ uri: `pkg:npm/atoma-tee@${version}#${file}`, digest: { sha256 } });
  return [
    ...lockEntries(lock).map((entry) => {
      const { algorithm, hex } = entryDigest(entry);
      return { uri: packageUrl(entry), digest: { [algorithm]: hex } };
    }),
    ...lock.file.map(({ path, sha256 }) => ({ name: path, digest: { sha256 } })),
    ...lock.oci.map(({ reference, digest }) => {
      const [algorithm = '', hex = ''] = digest.split(':');
      return { name: reference, digest: { [algorithm]: hex } };
    }),
    ...(lock.kernel ? [{ name: `linux ${lock.kernel.version}, small`, digest: { sha256: lock.kernel.sha256 } }] : []),
    ...(lock.gramine ? gramineLibraries(lock.gramine) : []),
    own('templates/nitro/init', init),
    own('dist/enclave/program.mjs', program),
  ];
}

/** No package of any registry: where they came from is each builder's affair. */
function gramineLibraries({ version, libpal, libsysdb }: GramineEntry) {
  const of = version === undefined ? 'pkg:generic/gramine' : `pkg:generic/gramine@${encodeURIComponent(version)}`;
  return [
    { uri: `${of}#sgx/libpal.so`, digest: { sha256: libpal.sha256 } },
    { uri: `${of}#libsysdb.so`, digest: { sha256: libsysdb.sha256 } },
  ];
}

/** https://github.com/package-url/purl-spec: each component percent-encoded, the scope of an npm name a namespace. */
function packageUrl(entry: LockEntry): string {
  const version = encodeURIComponent(entry.version);
  return entry.kind === 'npm'
    ? `pkg:npm/${entry.name.split('/').map(encodeURIComponent).join('/')}@${version}`
    : `pkg:deb/debian/${encodeURIComponent(entry.name)}@${version}?arch=${entry.architecture}`;
}
