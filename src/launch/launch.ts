import type { Enclave } from './enclave.ts';
import type { GramineOptions } from './gramine.ts';
import type { NitroOptions } from './nitro.ts';
import type { QemuOptions } from './qemu.ts';
import type { SimulatedOptions } from './simulated.ts';

export type TeeOptions =
  | ({ tee: 'simulated' } & SimulatedOptions)
  | ({ tee: 'qemu' } & QemuOptions)
  | ({ tee: 'nitro' } & NitroOptions)
  | ({ tee: 'gramine' } & GramineOptions);

/** Where an image can be run. */
export type Tee = TeeOptions['tee'];
export const TEES: Tee[] = ['simulated', 'qemu', 'nitro', 'gramine'];

/** Starts an image and waits until it serves. Throws what the launcher of that TEE throws. */
export async function launch(options: TeeOptions): Promise<Enclave> {
  switch (options.tee) {
    case 'simulated':
      return (await import('./simulated.ts')).launchSimulated(options);
    case 'qemu':
      return (await import('./qemu.ts')).launchQemu(options);
    case 'nitro':
      return (await import('./nitro.ts')).launchNitro(options);
    case 'gramine':
      return (await import('./gramine.ts')).launchGramine(options);
  }
}
