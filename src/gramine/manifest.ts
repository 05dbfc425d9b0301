/** Gramine manifests: read, filled in, checked, their trusted files hashed, written as Gramine's own tools write them. */
export { encodeManifest, ManifestDate, type ManifestTable, parseManifest } from './toml.ts';
