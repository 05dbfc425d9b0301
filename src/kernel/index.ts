/** The kernels of Nitro images: the small one that is built here, and files that a project names. */
export { type KernelFeatures, kernelFeatures } from './features.ts';
export { describeKernel, type KernelFile, readKernelFile } from './file.ts';
export {
  openSmallKernel,
  SMALL_KERNEL_CMDLINE,
  type SmallKernel,
  type SmallKernelPin,
  smallKernel,
  smallKernelPin,
} from './small.ts';
