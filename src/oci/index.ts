/** Container images: where they come from, and what file tree they are. */
export type { ImageConfig } from './config.ts';
export { type Container, openPinned, provideContainer, resolveContainer } from './container.ts';
export { flattenDirectory, listFile } from './dir.ts';
export { imageTree } from './flatten.ts';
export { resolveUser } from './user.ts';
