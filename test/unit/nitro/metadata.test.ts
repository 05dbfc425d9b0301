import { describe, expect, test } from 'vitest';
import { encodeMetadata, parseMetadata } from '../../../src/nitro/index.ts';

const build = {
  imageName: 'digits',
  imageVersion: '1.0.0',
  buildTime: 1_700_000_000,
  buildTool: 'atoma-tee',
  buildToolVersion: '0.1.0',
  operatingSystem: 'Linux',
  kernelVersion: '6.12.0',
};

describe('metadata section', () => {
  test('compact JSON in the order of eif_build, time as chrono writes it', () => {
    expect(encodeMetadata(build).toString()).toBe(
      '{"ImageName":"digits","ImageVersion":"1.0.0","BuildMetadata":{"BuildTime":"2023-11-14T22:13:20+00:00",' +
        '"BuildTool":"atoma-tee","BuildToolVersion":"0.1.0","OperatingSystem":"Linux","KernelVersion":"6.12.0"},' +
        '"DockerInfo":null,"CustomMetadata":null}',
    );
  });

  test('free JSON has sorted keys at every depth, arrays keep their order', () => {
    const text = encodeMetadata({ ...build, customMetadata: { b: [{ z: 1, y: 2 }, 'x'], a: null } }).toString();
    expect(text).toContain('"CustomMetadata":{"a":null,"b":[{"y":2,"z":1},"x"]}');
  });

  test.each([Number.NaN, 1.5, Number.POSITIVE_INFINITY, 1e15])('a build time of %d is refused', (buildTime) => {
    expect(() => encodeMetadata({ ...build, buildTime })).toThrow(
      expect.objectContaining({ code: 'ERR_EIF_METADATA' }),
    );
  });

  test.each(['', '[]', 'null', '"text"', '{"a":', '{"a":"\xff"}'])('%j is not a metadata section', (text) => {
    const bytes = Buffer.from(text, 'latin1');
    expect(() => parseMetadata(bytes)).toThrow(expect.objectContaining({ code: 'ERR_EIF_METADATA', exitCode: 2 }));
  });
});
