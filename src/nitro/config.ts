import { usageError } from '../core/errors.ts';
import { APPLICATION_RAMDISK, IMAGE_ROOT, MEASURED_CONFIG_PATH } from '../core/layout.ts';
import { type MeasuredConfig, parseMeasuredConfig } from '../core/measured-config.ts';
import { cpioFileSink } from '../image/cpio-list.ts';
import type { RamdiskSink } from './stream.ts';

const MAX_CONFIG = 1 << 16;

/**
 * Listens to `streamEif` and keeps the measured configuration of an image of ours. Refuses an application's ramdisk with
 * anything outside `rootfs/` (`ERR_CPIO_OUTSIDE`), for it could replace the init, and a ramdisk after it, for it could
 * replace the configuration. `config()` and `onRamdisk` throw `ERR_ENCLAVE_CONFIG` (exit 2) for what is not ours.
 */
export function measuredConfigTap() {
  const sink = cpioFileSink(`${IMAGE_ROOT}/${MEASURED_CONFIG_PATH}`, MAX_CONFIG, { under: IMAGE_ROOT });
  return {
    onRamdisk(index: number): RamdiskSink | undefined {
      if (index > APPLICATION_RAMDISK) throw notOurs('two ramdisks', 'a third one');
      return index === APPLICATION_RAMDISK ? sink : undefined;
    },
    config(): MeasuredConfig {
      const bytes = sink.content();
      if (bytes === null) throw notOurs(`/${MEASURED_CONFIG_PATH} in the image's second ramdisk`, 'none');
      return parseMeasuredConfig(bytes);
    },
  };
}

const notOurs = (expected: string, found: string) =>
  usageError('ERR_ENCLAVE_CONFIG', `expected ${expected}, found ${found}`, {
    hint: 'is this an image that `atoma-tee build` made?',
  });
