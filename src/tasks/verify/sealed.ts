import { hex } from '../../core/bytes.ts';
import { type Check, compare, fail, pass } from '../../core/check.ts';
import type { OnProgress } from '../../core/progress.ts';
import { verifySealed } from '../../seal/index.ts';
import type { NitroPolicy, Policy } from '../../seal/policy.ts';
import type { ManifestFacts } from './build-manifest.ts';
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
    const { measurement, modelDigest, project } = trust.manifest;
    findings.add(
      compare(
        'policy.owner',
        trust.manifest.owner,
        hex(result.parsed.header.owner),
        'the owner that the image measures',
      ),
      policyNames(policy, measurement as unknown as Record<string, string>),
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

/** Every alternative must be this image: one that is not would open the model to another program. */
export function policyNames(policy: Policy, measurement: Record<string, string>): Check {
  for (const alternative of policy.any) {
    const nitro = alternative.tee === 'simulated' ? alternative.of : alternative;
    if (nitro.tee !== 'nitro')
      return fail('policy.measurement', { expected: 'this Nitro image alone', actual: nitro.tee });
    const { tee: _, ...registers } = nitro as NitroPolicy;
    if (!registers.pcr0 || !registers.pcr1 || !registers.pcr2) {
      return fail('policy.measurement', {
        expected: 'this image alone',
        actual: 'any image signed with one key (pcr8)',
      });
    }
    for (const [name, value] of Object.entries(registers)) {
      const expected = measurement[name];
      if (expected !== value)
        return compare('policy.measurement', `${name} ${expected ?? 'absent'}`, `${name} ${value}`);
    }
  }
  return pass('policy.measurement', 'names this image and no other');
}
