import { readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { gramineNames } from '../../gramine/image-manifest.ts';
import { MEASUREMENTS_FILE } from '../../manifest/measurements.ts';
import type { Statement } from '../../manifest/statement.ts';

/**
 * What a verdict about a build manifest says nothing about, in words: outputs that it lists and no build of this version has,
 * and images that lie beside it and are none of its own. Whoever serves one of those serves something else.
 */
export async function unseen(manifest: string, statement: Statement): Promise<string[]> {
  return [
    ...told('other outputs that the manifest lists', await otherOutputs(statement)),
    ...told('beside the manifest, and not named in it', strays(manifest, statement)),
  ];
}

async function otherOutputs({ predicate }: Statement): Promise<string[]> {
  const { BOM_FILE } = await import('../../bom/facts.ts');
  const names = predicate.runDetails.byproducts.map(({ name, uri }) => name ?? uri ?? 'one without a name');
  return names.filter((name) => name !== MEASUREMENTS_FILE && name !== BOM_FILE);
}

const SIGNED = '.manifest.sgx';
const IMAGE = /\.(?:eif|manifest\.sgx|sig|gramine|oci)$/;

function strays(manifest: string, { subject }: Statement): string[] {
  const own = new Set(
    subject.flatMap(({ name }) => {
      if (!name.endsWith(SIGNED)) return [name];
      const { sigstruct, directory, layout } = gramineNames(name.slice(0, -SIGNED.length));
      return [name, sigstruct, directory, layout];
    }),
  );
  // A model's signature is nobody's enclave.
  return readdirSync(dirname(manifest))
    .filter((name) => IMAGE.test(name) && name !== 'model.sig' && !own.has(name))
    .sort();
}

const MOST = 5;

function told(what: string, names: string[]): string[] {
  if (names.length === 0) return [];
  const shown = names.slice(0, MOST).map((name) => JSON.stringify(name.slice(0, 200)));
  const more = names.length > MOST ? ` and ${names.length - MOST} more` : '';
  return [`${what}: ${shown.join(', ')}${more}`];
}
