import { expect, test } from 'vitest';
import { FRAME, frameHeader, readFrames } from '../../../src/launch/frames.ts';

const stream = Buffer.concat([
  frameHeader(FRAME.data, 3),
  Buffer.from('abc'),
  frameHeader(FRAME.end, 0),
  frameHeader(FRAME.go, 0),
]);

/** Gives at most `step` bytes at a time. */
function reader(bytes: Buffer, step: number) {
  let at = 0;
  return (into: Buffer) => {
    const got = bytes.copy(into, 0, at, Math.min(at + step, bytes.length));
    at += got;
    return got;
  };
}

const collect = (bytes: Buffer, step: number) =>
  [...readFrames(reader(bytes, step))].map(({ type, data }) => [type, data.toString()]);

test('frames come out as they went in, however the pipe cuts them', () => {
  const expected = [
    [FRAME.data, 'abc'],
    [FRAME.end, ''],
    [FRAME.go, ''],
  ];
  for (const step of [1, 2, 7, 1000]) expect(collect(stream, step)).toEqual(expected);
});

test('a stream that is cut anywhere never says go', () => {
  for (let length = 0; length < stream.length; length++) {
    expect(() => collect(stream.subarray(0, length), 4)).toThrow('did not say go');
  }
});

test('a frame that claims gigabytes is refused before memory is taken', () => {
  expect(() => collect(frameHeader(FRAME.data, 0xffffffff), 4)).toThrow('expected at most');
});
