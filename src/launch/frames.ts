/**
 * What the launcher writes to the stage's standard input: the ramdisks in pieces, each ramdisk ended by its own frame,
 * then "go" once the whole image has been measured. End of input before "go" means that the image was refused, or that
 * the launcher is gone. A frame is one type byte, a length (u32, big-endian) and as many bytes.
 */
export const FRAME = { data: 0x44, end: 0x45, go: 0x47 } as const;
const HEADER = 5;
const MAX_LENGTH = 16 << 20;

export function frameHeader(type: number, length: number): Buffer {
  const header = Buffer.alloc(HEADER);
  header.writeUInt8(type, 0);
  header.writeUInt32BE(length, 1);
  return header;
}

export interface Frame {
  type: number;
  /** Valid until the next frame is asked for. */
  data: Buffer;
}

/**
 * Frames from a blocking reader, which fills what it can of a buffer and returns 0 at the end of input. Throws where
 * the input ends before "go", which is the last frame.
 */
export function* readFrames(read: (into: Buffer) => number): Generator<Frame> {
  const header = Buffer.alloc(HEADER);
  let memory = Buffer.alloc(0);
  for (;;) {
    fill(read, header);
    const type = header.readUInt8(0);
    const length = header.readUInt32BE(1);
    if (length > MAX_LENGTH) throw new Error(`a frame has ${length} bytes, expected at most ${MAX_LENGTH}`);
    if (memory.length < length) memory = Buffer.allocUnsafeSlow(length);
    const data = memory.subarray(0, length);
    fill(read, data);
    yield { type, data };
    if (type === FRAME.go) return;
  }
}

function fill(read: (into: Buffer) => number, into: Buffer): void {
  for (let at = 0; at < into.length; ) {
    const got = read(into.subarray(at));
    if (got === 0) throw new Error('the launcher did not say go');
    at += got;
  }
}
