import { PackageURL } from 'packageurl-js';
import * as z from 'zod';
import { type Check, compare, fail, pass } from '../core/check.ts';
import { usageError } from '../core/errors.ts';
import type { Measurements } from '../manifest/measurements.ts';
import type { ResourceDescriptor, Statement } from '../manifest/statement.ts';
import { BOM_FILE, PROPERTY } from './facts.ts';

const part = z.looseObject({
  type: z.string(),
  name: z.string(),
  version: z.string().optional(),
  purl: z.string().optional(),
  hashes: z.array(z.looseObject({ alg: z.string(), content: z.string() })).optional(),
  properties: z.array(z.looseObject({ name: z.string(), value: z.string() })).optional(),
});
type Part = z.infer<typeof part>;
const schema = z.looseObject({
  bomFormat: z.literal('CycloneDX'),
  specVersion: z.literal('1.6'),
  metadata: z.looseObject({ component: part.extend({ components: z.array(part).optional() }) }),
  components: z.array(part),
});
export type ParsedBom = z.infer<typeof schema>;

/** So many names are told; the number of the others is. */
const TOLD = 5;

/** Throws `ERR_BOM_MALFORMED` (exit 2). */
export function parseBom(bytes: Uint8Array): ParsedBom {
  try {
    return schema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (cause) {
    throw usageError('ERR_BOM_MALFORMED', `expected the ${BOM_FILE} of a build (CycloneDX 1.6)`, { cause });
  }
}

/**
 * Whether a bill of materials is of the build that a manifest describes: the same inputs with the same digests, no more and no fewer,
 * the same model and the same images.
 */
export function bomChecks(bom: ParsedBom, statement: Statement, measurements: Measurements): Check[] {
  const { externalParameters, resolvedDependencies } = statement.predicate.buildDefinition;
  const { component } = bom.metadata;
  const models = bom.components.filter(({ type }) => type === 'machine-learning-model');
  const inputs = bom.components.filter(
    ({ type }) => type !== 'machine-learning-model' && type !== 'cryptographic-asset',
  );
  const [name, version] = [externalParameters.project.name, externalParameters.project.version];
  return [
    compare('bom.project', `${name} ${version}`, `${component.name} ${component.version}`),
    compare('bom.model', digestText(externalParameters.model.digest), models.map(digestOf).join(', ') || 'none'),
    ...inputChecks(resolvedDependencies.filter(isInImage(measurements)), inputs),
    compare('bom.images', images(measurements), listedImages(component.components ?? [])),
  ];
}

/** The lock is the list of the others; the init is the toolkit's share of every lock, and goes into Nitro images only. */
function isInImage({ images }: Measurements) {
  const nitro = images.some(({ target }) => target === 'nitro');
  return ({ name, uri }: ResourceDescriptor): boolean =>
    name !== 'atoma-tee.lock' && (nitro || !uri?.endsWith('#templates/nitro/init'));
}

function inputChecks(dependencies: ResourceDescriptor[], parts: Part[]): Check[] {
  const expected = dependencies.map(
    ({ uri, name, digest }) => [uri === undefined ? (name ?? '') : bareUrl(uri), digestText(digest)] as const,
  );
  const found = parts.map((each) => [keyOf(each), digestOf(each)] as const);
  const [want, have] = [new Map(expected), new Map(found)];
  const names = found.map(([key]) => key);
  const differences: [string, string[]][] = [
    ['bom.inputs-missing', [...want.keys()].filter((key) => !have.has(key))],
    [
      'bom.inputs-extra',
      [...names.filter((key) => !want.has(key)), ...names.filter((key, i) => names.indexOf(key) !== i)],
    ],
    [
      'bom.inputs-different',
      [...want].filter(([key, digest]) => have.has(key) && have.get(key) !== digest).map(([key]) => key),
    ],
    ['bom.names', parts.filter((each) => !isNamed(each)).map(({ name }) => name)],
  ];
  const failures = differences
    .filter(([, keys]) => keys.length > 0)
    .map(([id, keys]) => fail(id, { detail: told(keys) }));
  return failures.length > 0
    ? failures
    : [pass('bom.inputs', `all ${want.size} inputs of the manifest, with their digests`)];
}

/** Which input a part claims to be: by its package URL, without what the manifest's has not; else by our property. */
const keyOf = ({ purl, properties }: Part): string =>
  purl === undefined
    ? (properties?.find(({ name }) => name === `${PROPERTY}input`)?.value ?? 'a part without a package URL')
    : bareUrl(purl);

function bareUrl(text: string): string {
  try {
    const { type, namespace, name, version, qualifiers, subpath } = PackageURL.fromString(text);
    const kept = Object.entries(qualifiers ?? {}).filter(([key]) => key !== 'distro');
    return new PackageURL(type, namespace, name, version, Object.fromEntries(kept), subpath).toString();
  } catch {
    return text;
  }
}

/** What people read (name, version) has to be what the package URL says. The toolkit's and Gramine's parts have names of their own. */
function isNamed({ name, version, purl }: Part): boolean {
  if (purl === undefined) return true;
  try {
    const url = PackageURL.fromString(purl);
    if ((version ?? undefined) !== (url.version ?? undefined)) return false;
    return url.subpath !== undefined && url.subpath !== null
      ? true
      : name === (url.type === 'npm' && url.namespace ? `${url.namespace}/${url.name}` : url.name);
  } catch {
    return false;
  }
}

const digestOf = ({ hashes }: Part): string =>
  (hashes ?? []).map(({ alg, content }) => `${alg.replace('-', '').toLowerCase()}:${content}`).join(', ') || 'none';

const digestText = (digest: ResourceDescriptor['digest']): string =>
  Object.entries(digest ?? {})
    .map(([algorithm, hex]) => `${algorithm}:${hex}`)
    .join(', ') || 'none';

/** Without what a signature makes another one each time. */
const registers = (values: [string, string][]): string =>
  values
    .filter(([name]) => name !== 'tee' && name !== 'pcr8')
    .map(([name, value]) => `${name}=${value}`)
    .sort()
    .join(' ');

const images = ({ images: list }: Measurements): string =>
  list
    .map(({ file, measurement }) => `${file} ${registers(Object.entries(measurement).map(([k, v]) => [k, String(v)]))}`)
    .sort()
    .join('; ');

const listedImages = (parts: Part[]): string =>
  parts
    .filter(({ type }) => type === 'firmware')
    .map(({ name, properties = [] }) => {
      const own = properties.map(({ name: key, value }): [string, string] => [key.slice(PROPERTY.length), value]);
      return `${name} ${registers(own)}`;
    })
    .sort()
    .join('; ');

/** Names are somebody else's text. */
function told(names: string[]): string {
  const rest = names.length - TOLD;
  return `${names
    .slice(0, TOLD)
    .map((name) => JSON.stringify(name.slice(0, 200)))
    .join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}
