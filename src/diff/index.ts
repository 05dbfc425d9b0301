/** Why two images have different measurements, down to the file and its first differing bytes. */
export { diffSides } from './diff.ts';
export { type LoadOptions, loadSide } from './load.ts';
export type { Side } from './sides.ts';
export type {
  Cause,
  Change,
  Context,
  DiffReport,
  ImageDiff,
  ItemDiff,
  PartDiff,
  RegisterDiff,
  SideFacts,
} from './types.ts';
