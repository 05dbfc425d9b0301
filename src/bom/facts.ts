import type { LicenceDocument } from '../image/licence.ts';
import type { FileEntry, GramineEntry, KernelEntry, LockEntry, OciEntry } from '../image/lock-file.ts';
import type { Measurements } from '../manifest/measurements.ts';
import type { OnnxDescription } from '../model/onnx-describe.ts';

export const BOM_FILE = 'bom.cdx.json';
export const BOM_MEDIA_TYPE = 'application/vnd.cyclonedx+json';
/** Names of properties that are ours. */
export const PROPERTY = 'atoma-tee:';

/** An npm package inside the enclave program, which is one file of many packages. */
export interface BundledPackage {
  name: string;
  version: string;
  /** As its package.json has it. */
  license: string;
}

/** A package that a command's file system has (a container image's, or one that was included). */
export interface FoundPackage {
  type: 'deb' | 'apk' | 'npm';
  name: string;
  version: string;
  /** Of deb and apk. */
  architecture?: string;
  /** ID and VERSION_ID or VERSION_CODENAME of its os-release: "debian", "bookworm". */
  distribution?: { id: string; version: string };
  licence: LicenceStatement;
  /** The file that says that it is there, as the command sees it. */
  path: string;
}

/** Where licences are stated: npm's and apk's in a field, Debian's in a file. */
export type LicenceStatement =
  | { kind: 'npm' | 'apk'; text: string }
  | { kind: 'deb'; document: LicenceDocument | null };

export type StatedEntry = LockEntry & { licence: LicenceDocument | null };

/** All that `writeBom` writes down. Nothing of it depends on the machine, the clock or a signature. */
export interface BomFacts {
  project: { name: string; version: string };
  /** SOURCE_DATE_EPOCH, seconds. */
  timestamp: number;
  toolkit: { version: string; init: string; program: string; bundled: BundledPackage[] };
  /** Of measurements.json. */
  images: Measurements['images'];
  packages: StatedEntry[];
  files: FileEntry[];
  oci: OciEntry | undefined;
  /** What was found in the command's file system. */
  found: FoundPackage[];
  kernel: KernelEntry | undefined;
  gramine: GramineEntry | undefined;
  model: { /** Hex. */ digest: string; disclosed?: DisclosedModel | undefined };
}

/** With `build --disclose-model`. */
export interface DisclosedModel {
  files: { path: string; size: number; sha256: string }[];
  onnx?: OnnxDescription | undefined;
}
