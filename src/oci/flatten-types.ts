/** One path of a flattened image. */
export interface ImageEntry {
  /** '/'-separated, relative to the image's root, in its one form. */
  path: string;
  type: 'file' | 'dir' | 'symlink' | 'link';
  /** Permission bits: of files at most 0777, of directories at most 03777 (setgid and sticky), of symlinks 0777. */
  mode: number;
  uid: number;
  gid: number;
  /** Bytes of content; 0 for anything but a file. */
  size: number;
  /** Of a symlink, verbatim; of a link, the path of the earlier entry of type 'file' whose name it is too. */
  target?: string;
  /** Of a file: hex, of the content. */
  sha256?: string;
  /** Of a file: index into `diffIds`, and where in that layer's uncompressed tar its content starts. Not where there are no layers. */
  layer?: number;
  offset?: number;
}

/** How many entries of the flattened image lack something that their source had. */
export interface LeftOut {
  /** Device nodes, FIFOs and sockets: the entries themselves. */
  special: number;
  /** Files and directories whose extended attributes were left out. */
  xattrs: number;
  /** Files whose set-id bits were dropped. */
  setid: number;
  /** Entries of AUFS's book-keeping (.wh..wh.*). */
  metadata: number;
}

export interface FlatImage {
  /** Sorted bytewise by path. The root itself is none of them: it is 0755 and root's. */
  entries: ImageEntry[];
  /** "sha256:HEX" of each layer, the base first; empty for a directory. */
  diffIds: string[];
  leftOut: LeftOut;
  /** The same for people, one line for each kind that occurs. */
  notes: string[];
  /** Where the contents lie, if they are a directory's and no layers'. */
  directory?: string;
}

export const NOTHING_LEFT_OUT: LeftOut = { special: 0, xattrs: 0, setid: 0, metadata: 0 };

export function notesOf({ special, xattrs, setid, metadata }: LeftOut): string[] {
  const notes: [number, string][] = [
    [special, 'device nodes, FIFOs or sockets were left out: an enclave has its own /dev'],
    [
      xattrs,
      'files or directories lost their extended attributes (file capabilities among them), which a ramdisk cannot hold',
    ],
    [setid, 'files lost their setuid or setgid bits, which do nothing where new privileges are forbidden'],
    [metadata, 'entries of AUFS metadata were ignored'],
  ];
  return notes.filter(([count]) => count > 0).map(([count, text]) => `${count} ${text}`);
}

/** Order of the UTF-8 bytes, which is that of code points and not that of UTF-16. */
export function compareBytewise(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const [x, y] = [a.charCodeAt(i), b.charCodeAt(i)];
    if (x === y) continue;
    // Surrogates stand for code points above all others.
    if (x >= 0xd800 && y >= 0xd800 && x < 0xe000 !== y < 0xe000) return x < 0xe000 ? 1 : -1;
    return x - y;
  }
  return a.length - b.length;
}
