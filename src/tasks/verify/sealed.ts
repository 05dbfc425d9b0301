import { hex } from '../../core/bytes.ts';
import { type Check, compare, fail, pass } from '../../core/check.ts';
import type { OnProgress } from '../../core/progress.ts';
import { verifySealed } from '../../seal/index.ts';
import type { NitroPolicy, Policy, SgxPolicy } from '../../seal/policy.ts';
import type { ImageMeasurement, ManifestFacts } from './build-manifest.ts';
import type { Findings } from './report.ts';

export interface SealedTrust {
  /** Raw owner key, 32 bytes. */
  owner: Uint8Array;
  manifest?: ManifestFacts | undefined;
  key?: { seed: Buffer; publicRaw: Buffer } | undefined;
  /** Fingerprints. */
  allowSimulated: string[];
}

/** A sealed model: structure, owner, and that its policy lets in this image, with this model, and nothing else. */
export async function verifySealedModel(path: string, trust: SealedTrust, findings: Findings, onProgress?: OnProgress) {
  const result = await findings.step('file.structure', () =>
    verifySealed(path, {
      owner: trust.owner,
      ...(trust.key ? { key: trust.key } : {}),
      ...(onProgress ? { onProgress } : {}),
    }),
  );
  if (!result) return;
  findings.add(...result.checks);
  const { policy } = result.parsed.header;
  findings.simulated ||= policy.any.some(({ tee }) => tee === 'simulated');
  findings.add(...simulatedRoots(policy, trust.allowSimulated));
  if (trust.manifest) {
    const { measurements, modelDigest, project } = trust.manifest;
    findings.add(
      compare(
        'policy.owner',
        trust.manifest.owner,
        hex(result.parsed.header.owner),
        'the owner that the image measures',
      ),
      policyNames(policy, measurements),
      compare('policy.model', modelDigest, policy.model),
      compare('policy.project', project, policy.project),
    );
  } else {
    findings.notChecked.push('which image may open the sealed model: give --manifest for that');
  }
  if (!trust.key) findings.notChecked.push('what is inside the sealed model: only its enclave, or --key, can open it');
}

function simulatedRoots(policy: Policy, allowed: string[]): Check[] {
  const roots = policy.any.flatMap((one) => (one.tee === 'simulated' ? [one.root] : []));
  return roots.map((root) =>
    allowed.includes(root)
      ? pass('policy.simulated', `SIMULATED, by ${root}`)
      : fail('policy.simulated', {
          expected: allowed.join(' or ') || 'no simulated TEE (--allow-simulated names one)',
          actual: root,
        }),
  );
}

/** Every alternative must be an image of the manifest: one that is not would open the model to another program. */
export function policyNames(policy: Policy, measurements: ImageMeasurement[]): Check {
  for (const alternative of policy.any) {
    const accepted = alternative.tee === 'simulated' ? alternative.of : alternative;
    const found = accepted.tee === 'nitro' ? namesNitro(accepted, measurements) : namesSgx(accepted, measurements);
    if (found !== null) return found;
  }
  return pass(
    'policy.measurement',
    `names ${measurements.length > 1 ? 'images of this manifest' : 'this image'} and no other`,
  );
}

const notThisAlone = (actual: string) => fail('policy.measurement', { expected: 'this image alone', actual });
const different = (name: string, expected: string | undefined, actual: string) =>
  compare('policy.measurement', `${name} ${expected ?? 'absent'}`, `${name} ${actual}`);

function namesNitro({ tee: _, ...registers }: NitroPolicy, measurements: ImageMeasurement[]): Check | null {
  const image = measurements.find(({ tee }) => tee === 'nitro');
  if (image === undefined) return notThisAlone('a Nitro image');
  if (!registers.pcr0 || !registers.pcr1 || !registers.pcr2)
    return notThisAlone('any image signed with one key (pcr8)');
  for (const [name, value] of Object.entries(registers)) {
    const expected = (image as unknown as Record<string, string>)[name];
    if (expected !== value) return different(name, expected, String(value));
  }
  return null;
}

/** A lower version lets nothing else in: it is in the manifest, which MRENCLAVE covers. A higher one lets in nothing at all. */
function namesSgx(
  { mrenclave, mrsigner, isvprodid, min_isvsvn }: SgxPolicy,
  measurements: ImageMeasurement[],
): Check | null {
  const image = measurements.find(({ tee }) => tee === 'sgx');
  if (image?.tee !== 'sgx') return notThisAlone('an SGX enclave');
  if (mrenclave === undefined) return notThisAlone('any enclave signed with one key (mrsigner)');
  if (mrenclave !== image.mrenclave) return different('mrenclave', image.mrenclave, mrenclave);
  if (mrsigner !== image.mrsigner) return different('mrsigner', image.mrsigner, mrsigner);
  if (isvprodid !== image.isvprodid) return different('isvprodid', String(image.isvprodid), String(isvprodid));
  if (min_isvsvn > image.isvsvn) return different('isvsvn', String(image.isvsvn), `at least ${min_isvsvn}`);
  return null;
}
