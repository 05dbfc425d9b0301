import type { Base, DebEntry, GramineEntry, KernelEntry, Lock, NpmEntry, Rule } from './lock-file.ts';

const HEADER = `# Every fetched input of the images, pinned by digest. Written by \`atoma-tee lock\`; commit it.
# keep: which files of a package go where. tree: the digest of the list of those files.
`;

/** The text of a lock: the same value gives the same bytes, entries sorted by name, rules in their order. */
export function encodeLock(lock: Lock): string {
  const { version, init, program } = lock.toolkit;
  const blocks = [
    encodeBase(lock),
    ...lock.file.map(({ path, size, sha256 }) => `[[file]]\n${lines({ path, size, sha256 })}`),
    ...lock.oci.map(
      ({ reference, platform, digest, tree }) => `[[oci]]\n${lines({ reference, platform, digest, tree })}`,
    ),
    ...(lock.kernel ? [`[kernel]\n${kernelLines(lock.kernel)}`] : []),
    ...(lock.gramine ? [`[gramine]\n${gramineLines(lock.gramine)}`] : []),
    `[toolkit]\n${lines({ version, init, program })}`,
  ];
  return blocks.join('\n');
}

const kernelLines = ({ version, inputs, size, sha256 }: KernelEntry) => lines({ version, inputs, size, sha256 });

const gramineLines = ({ from, version, libpal, libsysdb }: GramineEntry): string => {
  const library = ({ size, sha256 }: GramineEntry['libpal']) => `{ size = ${size}, sha256 = ${scalar(sha256)} }`;
  const first = lines({ from, ...(version === undefined ? {} : { version }) });
  return `${first}libpal = ${library(libpal)}\nlibsysdb = ${library(libsysdb)}\n`;
};

/** The text of the toolkit's base. */
export function encodeBase(base: Base & { runtime?: string | undefined }): string {
  const { version, timestamp, runtime } = base;
  const blocks = [
    `${HEADER}${lines({ version, timestamp, ...(runtime === undefined ? {} : { runtime }) })}`,
    ...[...base.npm].sort(byName).map((e) => `[[npm]]\n${lines(npmFields(e))}${rules(e.keep)}`),
    ...[...base.deb].sort(byName).map((e) => `[[deb]]\n${lines(debFields(e))}${rules(e.keep)}`),
  ];
  return blocks.join('\n');
}

const npmFields = ({ name, version, allow, integrity, tree }: NpmEntry) => ({ name, version, allow, integrity, tree });

const debFields = ({ name, version, architecture, suite, allow, path, size, sha256, tree }: DebEntry) => ({
  name,
  version,
  architecture,
  suite,
  ...(allow === undefined ? {} : { allow }),
  path,
  size,
  sha256,
  tree,
});

const lines = (fields: Record<string, string | number>): string =>
  Object.entries(fields)
    .map(([key, value]) => `${key} = ${scalar(value)}\n`)
    .join('');

const rules = (keep: Rule[]): string => `keep = [\n${keep.map((rule) => `  ${inline(rule)},\n`).join('')}]\n`;

const inline = ({ from, to, part, mode, unpack }: Rule): string =>
  `{ ${Object.entries({ from, to, part, mode, unpack })
    .filter((pair): pair is [string, string] => pair[1] !== undefined)
    .map(([key, value]) => `${key} = ${scalar(value)}`)
    .join(', ')} }`;

/** JSON's strings are TOML's basic strings, but for DEL, which JSON lets stand. */
const scalar = (value: string | number): string => JSON.stringify(value).replaceAll('\x7f', '\\u007f');

const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
