import { hex } from '../core/bytes.ts';
import type { IndexFile, Piece, SealIndex } from './index-part.ts';
import { LIMITS, type Limits, type Plan, Planner } from './plan.ts';

// Which parts of an older sealed model can stand in a new one as they are. Pure.

export interface NewFile {
  path: string;
  size: number;
  sha256: Uint8Array;
}

/** Parts and files that belong together: no file has bytes in two groups. `pieces` are in payload order. */
interface Group {
  files: number[];
  pieces: Piece[];
}

/** A part of one large file that changed somewhere, perhaps not here: `file` is the new one. */
export interface Candidate {
  part: number;
  file: number;
  fileOffset: number;
  length: number;
}

export interface ReusePlan {
  /** Parts whose plaintext has to be compared with the new file's. */
  candidates: Candidate[];
  /** The plan, when it is known which of the candidates (by part) have changed. */
  finish(changed: ReadonlySet<number>): Plan;
}

/**
 * Files keep their places: a part stays if everything in it is in the new model too, by path, size and digest or, moved, by size and
 * digest. Of a large file that changed, the parts that did not stay; small files whose neighbours changed are packed again, together, so
 * that a change touches the same part the next time.
 */
export function planReuse(
  old: Pick<SealIndex, 'files' | 'pieces'>,
  files: NewFile[],
  limits: Limits = LIMITS,
): ReusePlan {
  const same = match(old.files, files);
  const byPath = new Map(files.map(({ path }, i) => [path, i]));
  const taken = new Set(same.filter((file) => file !== undefined));
  /** The new file in the place of an old one: the same content, else the same path. */
  const heir = (file: number): number | undefined => {
    const unchanged = same[file];
    if (unchanged !== undefined) return unchanged;
    const there = byPath.get(old.files[file]?.path ?? '');
    return there === undefined || taken.has(there) ? undefined : there;
  };
  const isLarge = (file: number) => (files[file]?.size ?? 0) >= limits.large;
  const groups = group(old.pieces).map((g) => ({ ...g, whole: g.files.every((file) => same[file] !== undefined) }));
  const candidates = groups.flatMap(({ files: [only, ...others], pieces, whole }) => {
    const file = only === undefined || others.length > 0 || whole ? undefined : heir(only);
    if (file === undefined || !isLarge(file)) return [];
    return pieces
      .filter(({ fileOffset, length }) => fileOffset + length <= (files[file]?.size ?? 0))
      .map(({ part, fileOffset, length }) => ({ part, file, fileOffset, length }));
  });

  const finish = (changed: ReadonlySet<number>): Plan => {
    const planner = new Planner(
      files.map(({ size }) => size),
      limits,
    );
    const stays = new Set(candidates.filter(({ part }) => !changed.has(part)).map(({ part }) => part));
    const placed = new Set<number>();
    const packs: number[][] = [];
    for (const { files: inside, pieces, whole } of groups) {
      const heirs = inside.map(heir).filter((file) => file !== undefined);
      const [file] = heirs;
      if (whole) keep(planner, pieces, (piece) => same[piece.file] ?? 0);
      else if (inside.length === 1 && file !== undefined && isLarge(file)) patch(planner, pieces, file, files, stays);
      else {
        const small = heirs.filter((heir) => !isLarge(heir));
        if (small.length > 0) packs.push(small);
        for (const file of small) placed.add(file);
        continue;
      }
      for (const file of heirs) placed.add(file);
    }
    const rest = [...files.keys()].filter((file) => !placed.has(file));
    const last = packs.pop() ?? [];
    for (const pack of packs) planner.pack(pack);
    planner.pack([...last, ...rest.filter((file) => !isLarge(file))]);
    for (const file of rest) if (isLarge(file)) planner.spread(file);
    return planner.plan;
  };
  return { candidates, finish };
}

/** By old file: the new file with the same content, each taken once, preferably under the same path. */
function match(old: IndexFile[], files: NewFile[]): (number | undefined)[] {
  const contentOf = ({ size, sha256 }: NewFile) => `${size} ${hex(sha256)}`;
  const byPath = new Map(files.map(({ path }, i) => [path, i]));
  const taken = new Set<number>();
  const same = old.map((file) => {
    const there = byPath.get(file.path);
    const found = there === undefined ? undefined : files[there];
    if (there === undefined || !found || file.size === 0 || contentOf(found) !== contentOf(file)) return undefined;
    taken.add(there);
    return there;
  });
  const moved = new Map<string, number[]>();
  for (const [i, file] of files.entries()) {
    if (taken.has(i) || file.size === 0) continue;
    const list = moved.get(contentOf(file));
    if (list) list.push(i);
    else moved.set(contentOf(file), [i]);
  }
  return old.map((file, i) => same[i] ?? moved.get(contentOf(file))?.pop());
}

/** A group ends where a part and a file end together. */
function group(pieces: Piece[]): Group[] {
  const groups: Group[] = [];
  for (const piece of pieces) {
    if (piece.offset === 0 && piece.fileOffset === 0) groups.push({ files: [], pieces: [] });
    const last = groups.at(-1);
    last?.pieces.push(piece);
    if (last && last.files.at(-1) !== piece.file) last.files.push(piece.file);
  }
  return groups;
}

/** The parts of a group as they are. */
function keep(planner: Planner, pieces: Piece[], heir: (piece: Piece) => number): void {
  for (const piece of pieces) {
    if (piece.offset === 0) planner.begin(piece.part);
    planner.append(heir(piece), piece.fileOffset, piece.length);
  }
}

/** A large file with some parts of old: it is cut where the old one was. */
function patch(planner: Planner, pieces: Piece[], file: number, files: NewFile[], stays: ReadonlySet<number>): void {
  const size = files[file]?.size ?? 0;
  let end = 0;
  for (const { part, fileOffset, length } of pieces) {
    const there = Math.min(length, size - fileOffset);
    if (there <= 0) break;
    planner.begin(stays.has(part) ? part : null);
    planner.append(file, fileOffset, there);
    end = fileOffset + there;
  }
  planner.spread(file, end);
}
