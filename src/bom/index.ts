/** The bill of materials, bom.cdx.json. Loaded where one is written or checked: its libraries take a while. */
export { bundledPackages } from './bundled.ts';
export { bomChecks, parseBom } from './check.ts';
export { BOM_FILE, BOM_MEDIA_TYPE, type BomFacts, type DisclosedModel } from './facts.ts';
export { findPackages } from './found-packages.ts';
export { writeBom } from './write.ts';
