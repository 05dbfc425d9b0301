/** Where things lie in every image of ours (docs/build.md). No imports: the launcher's stage loads this first thing. */

/** The one directory of the application's ramdisk; the init switches into it. */
export const IMAGE_ROOT = 'rootfs';
/** Which ramdisk is the application's: the one that PCR2 measures. Ramdisk 0 is the init's. */
export const APPLICATION_RAMDISK = 1;
/** The measured configuration, under IMAGE_ROOT. */
export const MEASURED_CONFIG_PATH = 'etc/atoma-tee/enclave.json';
/**
 * Root file system of a command, under IMAGE_ROOT: what its container image holds. The agent (Node and this toolkit's program)
 * stays outside of it, so neither has to fit the other's C library.
 */
export const COMMAND_ROOT = 'image';
/** Where the agent opens a model, under IMAGE_ROOT: in memory. The init mounts it for the command as well. */
export const MODEL_DIRECTORY = 'run/model';
/** Name of the virtio-serial port between a virtual machine and its launcher. */
export const HOST_PORT_NAME = 'atoma.0';
/** vsock port on which the program waits for its host, where there is no such port. */
export const HOST_VSOCK_PORT = 5005;
/** Environment variable with the launcher's address under Gramine, "127.0.0.1:PORT": the manifest lets it through. */
export const LAUNCHER_ADDRESS_VARIABLE = 'ATOMA_TEE_HOST';

/** Environment of the program where an enclave has so many threads and no more: the most that onnxruntime may start. Measured. */
export const MOST_THREADS = 'ATOMA_TEE_MOST_THREADS';
