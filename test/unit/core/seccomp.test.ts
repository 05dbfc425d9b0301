import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ENOSYS = 'errno 38';
const EAFNOSUPPORT = 'errno 97';

test('the filter leaves ordinary sockets and closes vsock, io_uring, keyrings and the x32 entry', () => {
  const output = execFileSync(process.execPath, ['--no-warnings', join(import.meta.dirname, 'seccomp-probe.ts')]);
  expect(JSON.parse(output.toString())).toEqual({
    unix: 'ok',
    inet: 'ok',
    inet6: expect.stringMatching(/^ok$|^errno 97$/),
    netlink: 'ok',
    vsock: EAFNOSUPPORT,
    packet: EAFNOSUPPORT,
    alg: EAFNOSUPPORT,
    ioUring: ENOSYS,
    keyctl: ENOSYS,
    x32Socket: ENOSYS,
    getpid: 'ok',
  });
});
