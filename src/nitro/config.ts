import { usageError } from '../core/errors.ts';
import { APPLICATION_RAMDISK, IMAGE_ROOT, MEASURED_CONFIG_PATH } from '../core/layout.ts';
import { type MeasuredConfig, parseMeasuredConfig } from '../core/measured-config.ts';
import { cpioFileSink } from '../image/cpio-list.ts';
import { parseEif } from './layout.ts';
import { type EifSource, withSource } from './source.ts';

const MAX_CONFIG = 1 << 16;
const CHUNK = 1 << 20;

/**
 * A sink for `streamEif` that keeps the measured configuration, and refuses an application's ramdisk with anything
 * outside `rootfs/` (`ERR_CPIO_OUTSIDE`): it could replace the init. `config()` throws `ERR_ENCLAVE_CONFIG` (exit 2) if
 * there is none, or not one of ours.
 */
export function measuredConfigSink() {
  const sink = cpioFileSink(`${IMAGE_ROOT}/${MEASURED_CONFIG_PATH}`, MAX_CONFIG, { under: IMAGE_ROOT });
  const config = (): MeasuredConfig => {
    const bytes = sink.content();
    if (bytes === null) throw noConfig();
    return parseMeasuredConfig(bytes);
  };
  return { write: sink.write, end: sink.end, config };
}

/** The measured configuration of an image that is not being measured in the same breath; throws as `measuredConfigSink`. */
export async function readMeasuredConfig(image: string | EifSource): Promise<MeasuredConfig> {
  return withSource(image, async (source) => {
    const { sections } = await parseEif(source);
    const ramdisk = sections.filter(({ type }) => type === 'ramdisk')[APPLICATION_RAMDISK];
    if (!ramdisk) throw noConfig();
    const sink = measuredConfigSink();
    const buffer = Buffer.allocUnsafe(CHUNK);
    for (let done = 0; done < ramdisk.size; ) {
      const chunk = buffer.subarray(0, Math.min(CHUNK, ramdisk.size - done));
      await source.read(chunk, ramdisk.offset + done);
      sink.write(chunk);
      done += chunk.length;
    }
    sink.end();
    return sink.config();
  });
}

const noConfig = () =>
  usageError('ERR_ENCLAVE_CONFIG', `expected /${MEASURED_CONFIG_PATH} in the image's second ramdisk, found none`, {
    hint: 'is this an image that `atoma-tee build` made?',
  });
