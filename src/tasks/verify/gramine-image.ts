import { createHash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { compare, fail, pass } from '../../core/check.ts';
import { readSmallFile } from '../../core/files.ts';
import type { OnProgress } from '../../core/progress.ts';
import { readBuiltImage } from '../../gramine/built-image.ts';
import { compareRoot, type RootDifferences } from '../../gramine/compare-root.ts';
import { gramineNames } from '../../gramine/image-manifest.ts';
import { checkOciLayout } from '../../gramine/oci-check.ts';
import type { Measurements } from '../../manifest/measurements.ts';
import type { Statement } from '../../manifest/statement.ts';
import { besideManifest, sigstructSubject } from '../image.ts';
import { configurationChecks } from './configuration.ts';
import type { Findings } from './report.ts';

type Subject = Statement['subject'][number];

/** So many names of files are told; the number of the others is. */
const TOLD = 10;

/** The signature that goes with NAME.manifest.sgx. */
export const sigstructName = (manifest: string): string => gramineNames(imageName(manifest)).sigstruct;
const imageName = (manifest: string): string => manifest.slice(0, -gramineNames('').manifest.length);

/**
 * A Gramine image beside its build manifest: MRENCLAVE and signature anew, every file of the root, the OCI layout's blobs. A
 * debug enclave fails: it is what was built, and protects nothing.
 */
export async function verifyGramineImage(
  manifest: string,
  statement: Statement,
  subject: Subject,
  measurements: Measurements,
  findings: Findings,
  onProgress?: OnProgress,
): Promise<void> {
  const names = gramineNames(imageName(subject.name));
  const path = besideManifest(manifest, subject.name);
  // Without the image there is nothing to judge: an error, as with every image. Half of one is a verdict.
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) await readSmallFile(path, 'Gramine manifest');
  const image = await findings.besideStep('gramine.enclave', () => readBuiltImage(path, { onProgress }));
  if (image) {
    const listed = measurements.images.find((other) => other.target === 'gramine' && other.file === subject.name);
    const listedSgx = listed?.target === 'gramine' ? listed : undefined;
    findings.add(
      ...digestChecks('gramine.manifest', subject, image.manifest),
      compare('gramine.listed-sha256', listed?.sha256 ?? 'not listed', image.sha256.manifest),
    );
    const sigstruct = await findings.step('gramine.subjects', () => sigstructSubject(statement, names.sigstruct));
    if (sigstruct) findings.add(...digestChecks('gramine.sigstruct', sigstruct, image.sigstruct));
    for (const register of ['mrenclave', 'mrsigner', 'isvprodid', 'isvsvn'] as const) {
      const expected = String(listedSgx?.measurement[register] ?? 'not listed');
      findings.add(compare(`measurement.${register}`, expected, String(image.measurement[register])));
    }
    findings.add(
      image.settings.debug
        ? fail('gramine.debug', { detail: 'DEBUG enclave: the host can read all of its memory' })
        : pass('gramine.production', 'no debug enclave'),
    );
    const root = await findings.besideStep('gramine.root', () => compareRoot(image, { onProgress }));
    if (root) reportRoot(root, findings);
    findings.add(...configurationChecks(statement, image.config, subject.name));
  }
  await checkLayout(manifest, statement, names.layout, findings);
}

function digestChecks(id: string, { digest }: Subject, bytes: Buffer) {
  const found = (algorithm: string) => createHash(algorithm).update(bytes).digest('hex');
  return (['sha256', 'sha384'] as const).map((algorithm) =>
    compare(`${id}-${algorithm}`, digest[algorithm] ?? 'none', found(algorithm)),
  );
}

function reportRoot({ trusted, missing, changed, extra, outside }: RootDifferences, findings: Findings): void {
  const wrong = (id: string, files: string[]) =>
    files.length === 0 ? [] : [fail(id, { detail: `${files.length} of ${trusted} files: ${told(files)}` })];
  const failures = [
    ...wrong('gramine.files-missing', missing),
    ...wrong('gramine.files-changed', changed),
    ...wrong('gramine.files-outside', outside),
  ];
  findings.add(...(failures.length > 0 ? failures : [pass('gramine.files', `all ${trusted} trusted files`)]));
  if (extra.length === 0) return;
  findings.notChecked.push(
    `${extra.length} files in the image's root that the manifest does not trust, so that Gramine opens none of them: ${told(extra)}`,
  );
}

/** Names of files are somebody else's text. */
function told(files: string[]): string {
  const names = [...files].sort().slice(0, TOLD);
  const rest = files.length - names.length;
  return `${names.map((name) => JSON.stringify(name)).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

/** It is the same image once more, for container tools; an image without it runs all the same. */
async function checkLayout(manifest: string, statement: Statement, name: string, findings: Findings): Promise<void> {
  const path = besideManifest(manifest, name);
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) {
    findings.notChecked.push(`the OCI layout ${name}: it is not here`);
    return;
  }
  const listed = statement.predicate.runDetails.byproducts.find((other) => other.name === name);
  const found = await findings.besideStep('gramine.layout', () => checkOciLayout(path));
  if (!found) return;
  findings.add(compare('gramine.layout-manifest', listed?.digest?.sha256 ?? 'not listed', found.manifest));
  if (found.extra.length === 0) return;
  findings.notChecked.push(
    `${found.extra.length} things in the OCI layout ${name} that no digest covers, files that its image does not have and annotations: ${told(found.extra)}`,
  );
}
