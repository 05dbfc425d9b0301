/** The report of `diff`: what `--json` prints, and what the terminal and the page are drawn from. docs/diff.md documents it. */

export type Verdict =
  /** Every byte that was compared is the same. */
  | 'equal'
  /** The registers are the same; bytes that no register covers are not. */
  | 'same-measurement'
  | 'different'
  /** One of the two is a debug enclave, whose registers are zero: there is nothing to compare. */
  | 'debug';

export interface DiffReport {
  verdict: Verdict;
  a: SideFacts;
  b: SideFacts;
  images: ImageDiff[];
  /** Inputs that the two build manifests pin differently. */
  inputs: InputDifference[];
  /** Each cause once, the most frequent first; what no rule explains at the end. */
  causes: CountedCause[];
  /** What could not be compared, and what else a reader has to know. */
  notes: string[];
}

export interface SideFacts {
  /** As the command line has it. */
  path: string;
  kind: 'eif' | 'gramine-manifest' | 'build' | 'measurements' | 'measurement';
  /** Name of the project, of a build. */
  project?: string;
  /** Version of the toolkit that built it. */
  toolkit?: string;
}

export interface InputDifference {
  /** "pkg:deb/debian/libc6", "oci:registry/app"; without the version. */
  name: string;
  /** Version and digest, or null where it is not there. */
  a: string | null;
  b: string | null;
}

export interface ImageDiff {
  target: 'nitro' | 'gramine';
  registers: RegisterDiff[];
  parts: PartDiff[];
}

export interface RegisterDiff {
  /** "pcr0", "mrenclave". */
  name: string;
  a: string | null;
  b: string | null;
  /** "unknown": one side does not say. */
  status: 'equal' | 'different' | 'debug' | 'unknown';
  /** Names of the parts that it covers and that differ. */
  because: string[];
}

export interface PartDiff {
  /** kernel, cmdline, ramdisk0..; manifest, pal, tcs.. (areas of an enclave); metadata, signature, header (not measured). */
  name: string;
  /** Registers that cover it; empty: no measurement depends on it. */
  registers: string[];
  a: PartFacts | null;
  b: PartFacts | null;
  status: 'equal' | 'different' | 'unknown';
  /** Of the part as a whole: order, compression, numbering; shown before the items. */
  changes: Change[];
  /** What differs inside: files of a ramdisk, settings of a manifest. The first ones, unless all were asked for. */
  items: ItemDiff[];
  /** How many items differ in the same way, the most frequent first; counts cover what `items` leaves out. */
  groups: { what: string; count: number; causes: Cause['id'][] }[];
  omitted: number;
  /** The first differing bytes, where no item inside explains them. */
  context?: Context | undefined;
  causes: CountedCause[];
  problems: string[];
}

export interface PartFacts {
  size: number;
  /** Hex: SHA-384 of a section, SHA-256 of a manifest as a file or of an enclave's other area. */
  digest: string | null;
  /** Entries of an archive. */
  entries?: number | undefined;
}

export interface ItemDiff {
  path: string;
  kind: 'file' | 'setting';
  changes: Change[];
  context?: Context | undefined;
  causes: Cause[];
}

export interface Change {
  what:
    | 'added'
    | 'removed'
    | 'renamed'
    | 'content'
    | 'type'
    | 'mode'
    | 'owner'
    | 'time'
    | 'target'
    | 'device'
    | 'value'
    | 'order'
    | 'numbering'
    | 'compression'
    | 'layout'
    | 'framing';
  a: string | null;
  b: string | null;
}

/** The first differing bytes and what is around them. */
export interface Context {
  /** Of the first differing byte. */
  offset: number;
  sizeA: number;
  sizeB: number;
  /** How many bytes differ, position by position; null where the lengths differ too. */
  differing: number | null;
  /** Rows of 16 bytes, at the same offsets. */
  hex: { offset: number; a: string; b: string; textA: string; textB: string }[];
  /** A small line diff, where both are text. */
  lines?: { op: ' ' | '-' | '+'; text: string }[];
}

export type CauseId =
  | 'clock'
  | 'compressor'
  | 'umask'
  | 'owner'
  | 'locale'
  | 'directory-order'
  | 'numbering'
  | 'path'
  | 'package'
  | 'lock'
  | 'base-image'
  | 'toolkit'
  | 'kernel'
  | 'configuration'
  | 'machine-state'
  | 'layout'
  | 'cpio-writer'
  | 'signature'
  | 'debug'
  | 'unknown';

/** A rule that held, and why it did. */
export interface Cause {
  id: CauseId;
  reason: string;
}

/** How many items, or whole parts, it explains. */
export interface CountedCause extends Cause {
  count: number;
}
