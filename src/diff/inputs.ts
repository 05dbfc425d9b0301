import type { ResourceDescriptor, Statement } from '../manifest/statement.ts';
import type { InputDifference } from './types.ts';

interface Input {
  version: string;
  digest: string;
}

/** Inputs of two builds that are not the same, each under a name that both versions have in common. */
export function compareInputs(a: Statement | undefined, b: Statement | undefined): InputDifference[] {
  if (!a || !b) return [];
  const [x, y] = [inputsOf(a), inputsOf(b)];
  const differences = [...new Set([...x.keys(), ...y.keys()])].flatMap((name) => {
    const [p, q] = [x.get(name), y.get(name)];
    return p?.version === q?.version && p?.digest === q?.digest ? [] : [{ name, a: shown(p, q), b: shown(q, p) }];
  });
  const [epochA, epochB] = [a, b].map(
    ({ predicate }) => predicate.buildDefinition.internalParameters.SOURCE_DATE_EPOCH,
  );
  if (epochA !== epochB) differences.push({ name: 'SOURCE_DATE_EPOCH', a: String(epochA), b: String(epochB) });
  const [modelA, modelB] = [a, b].map(
    ({ predicate }) => predicate.buildDefinition.externalParameters.model.digest.sha256,
  );
  if (modelA !== modelB) differences.push({ name: 'model', a: modelA ?? null, b: modelB ?? null });
  return differences.sort((p, q) => (p.name < q.name ? -1 : 1));
}

/** The version where that tells them apart, else the digest. */
function shown(of: Input | undefined, other: Input | undefined): string | null {
  if (of === undefined) return null;
  const short = of.digest.slice(0, 23);
  return of.version === '' ? short : of.version === other?.version ? `${of.version} (${short})` : of.version;
}

function inputsOf({ predicate }: Statement): Map<string, Input> {
  const { project } = predicate.buildDefinition.externalParameters;
  const image = (project.base as { image?: unknown } | undefined)?.image;
  return new Map(predicate.buildDefinition.resolvedDependencies.map((entry) => inputOf(entry, image)));
}

function inputOf({ uri, name, digest = {} }: ResourceDescriptor, image: unknown): [string, Input] {
  const [algorithm, value] = Object.entries(digest)[0] ?? ['', ''];
  const pin = `${algorithm}:${value}`;
  const purl = /^(pkg:[^@]+)@([^?#]+)(?:\?[^#]*)?(#.*)?$/.exec(uri ?? '');
  if (purl) {
    const [, base = '', version = '', file = ''] = purl;
    return [decoded(`${base}${file}`), { version: decoded(version), digest: pin }];
  }
  const kernel = /^linux (\S+), small$/.exec(name ?? '');
  if (kernel) return ['linux (small kernel)', { version: kernel[1] ?? '', digest: pin }];
  // A container image is named by what the project calls it: another tag is another version of the same input.
  if (name !== undefined && name === image) return ['oci: base image', { version: name, digest: pin }];
  return [name ?? uri ?? 'unnamed', { version: '', digest: pin }];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
