/** Where things lie in every image of ours (docs/build.md). No imports: the launcher's stage loads this first thing. */

/** The one directory of the application's ramdisk; the init switches into it. */
export const IMAGE_ROOT = 'rootfs';
/** Which ramdisk is the application's: the one that PCR2 measures. Ramdisk 0 is the init's. */
export const APPLICATION_RAMDISK = 1;
/** The measured configuration, under IMAGE_ROOT. */
export const MEASURED_CONFIG_PATH = 'etc/atoma-tee/enclave.json';
