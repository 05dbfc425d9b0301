import type { OnProgress } from '../core/progress.ts';
import { nitroProbes, processorProbes } from '../doctor/enclaves.ts';
import { type Finding, look, type Probe } from '../doctor/finding.ts';
import { inputProbes } from '../doctor/inputs.ts';
import { machineProbes } from '../doctor/machine.ts';

export interface DoctorOptions {
  /** Ask the registry and the mirror for one package each. */
  network?: boolean;
  /** npm reads the .npmrc of this directory; default: the working directory. */
  dir?: string;
  onProgress?: OnProgress;
}

/** The shape of `doctor --json`. */
export interface DoctorReport {
  /** True where nothing is missing that build, seal, run --tee simulated and verify need. */
  ready: boolean;
  sections: { title: string; findings: Finding[] }[];
}

/**
 * What this machine can do. Only looks: nothing is installed, started for good or written, and every child process is
 * given a limited time. Never throws for what it finds.
 */
export async function doctor({
  network = false,
  dir = process.cwd(),
  onProgress,
}: DoctorOptions = {}): Promise<DoctorReport> {
  const places = { root: '' };
  const plan: [title: string, probes: Probe[]][] = [
    ['The main job: build, seal, run --tee simulated, verify', [...machineProbes(), ...inputProbes(dir, network)]],
    ['Nitro images', nitroProbes(places)],
    ['Confidential processors', processorProbes(places)],
  ];
  const total = plan.reduce((sum, [, probes]) => sum + probes.length, 0);
  let done = 0;
  const section = async ([title, probes]: [string, Probe[]]) => ({
    title,
    findings: await Promise.all(
      probes.map(async (probe) => {
        const finding = await look(probe);
        onProgress?.({ phase: 'looking', done: ++done, total, unit: 'items' });
        return finding;
      }),
    ),
  });
  const sections = await Promise.all(plan.map(section));
  const ready = sections.every(({ findings }) =>
    findings.every(({ status, required }) => !required || status === 'ok'),
  );
  return { ready, sections };
}
