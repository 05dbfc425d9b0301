import { describe, expect, test } from 'vitest';
import { checkManifest, parseManifest } from '../../../src/gramine/manifest.ts';
import { thrown } from './manifest-cases.ts';

const BASE = 'libos.entrypoint = "/a"\nloader.entrypoint.uri = "file:x"\n';
const check = (text: string, base = `${BASE}fs.mounts = []\n`) => checkManifest(parseManifest(base + text, 'test'));
const refused = (text: string, base?: string) => thrown(() => check(text, base));

test('every key of Gramine 1.9 is known', () => {
  check(
    `libos.check_invalid_pointers = false
loader.argv = ["a"]
loader.argv_src_file = "file:x"
loader.env_src_file = "file:x"
loader.gid = 1
loader.uid = 1
loader.insecure__use_cmdline_argv = true
loader.insecure__use_host_env = true
loader.insecure__disable_aslr = true
loader.log_file = "x"
loader.log_level = "all"
loader.env.A = "x"
loader.env.B = { value = "x" }
loader.env.C = { passthrough = true }
loader.env.constructor = "x"
sgx.allowed_files = ["file:x"]
sgx.cpu_features = { avx = "required", avx512 = "disabled", amx = "unspecified", mpx = "required", pkru = "disabled" }
sgx.debug = true
sgx.edmm_enable = true
sgx.enable_stats = true
sgx.enclave_size = "1G"
sgx.file_check_policy = "allow_all_but_log"
sgx.insecure__allow_memfaults_without_exinfo = true
sgx.insecure__rpc_thread_num = 0
sgx.isvprodid = 1
sgx.isvsvn = 1
sgx.max_threads = 1
sgx.preheat_enclave = true
sgx.profile = { enable = "main", mode = "aex", with_stack = true, frequency = 50 }
sgx.remote_attestation = "dcap"
sgx.seal_key = { flags_mask = "0x1", xfrm_mask = "0x1", misc_mask = "0x1" }
sgx.trusted_files = [{ uri = "file:x", sha256 = "${'Ab'.repeat(32)}" }]
sgx.use_exinfo = true
sgx.vtune_profile = true
sys.allowed_ioctls = [{ request_code = 0x1, struct = "s" }, { request_code = 2 }]
sys.brk.max_size = "1M"
sys.disallow_subprocesses = true
sys.enable_extra_runtime_domain_names_conf = true
sys.enable_sigterm_injection = true
sys.experimental__enable_flock = true
sys.insecure__allow_eventfd = true
sys.ioctl_structs.s = [{ size = 4, direction = "out" }]
sys.debug__mock_syscalls = [{ name = "x", return = -1 }, { name = "y" }]
sys.stack.size = "1M"
sys.fds.limit = 900
fs.start_dir = "/"
fs.insecure__keys.default = "00"
fs.root = { type = "encrypted", uri = "file:x", key_name = "k", enable_recovery = true }
[[fs.mounts]]
path = "/a"
uri = "file:a"
[[fs.mounts]]
type = "chroot"
path = "/a"
uri = "file:a"
[[fs.mounts]]
type = "tmpfs"
path = "/t"
[[fs.mounts]]
type = "untrusted_shm"
path = "/s"
uri = "dev:s"
`,
    BASE,
  );
});

describe('unknown keys', () => {
  test.each([
    ['sgx.max_thread = 1', 'sgx.max_thread', 'max_threads'],
    ['sgx.thread_num = 1', 'sgx.thread_num', undefined],
    ['sxg.debug = true', 'sxg', 'sgx'],
    ['sgx.cpu_features.avx2 = "required"', 'sgx.cpu_features.avx2', 'avx'],
    ['sys.fds.limits = 1', 'sys.fds.limits', 'limit'],
    ['sgx.__proto__ = 1', 'sgx.__proto__', undefined],
    ['loader.entrypoint.sha265 = "x"', 'loader.entrypoint.sha265', 'sha256'],
  ])('%s', async (line, key, nearest) => {
    const error = await refused(`${line}\n`);
    expect(error).toMatchObject({ code: 'ERR_GRAMINE_UNKNOWN_KEY', exitCode: 2, details: { key } });
    expect(error.message).toContain(`"${key}"`);
    if (nearest) expect(error.hint).toBe(`did you mean "${nearest}"?`);
  });

  test('of a mount: those of its type are suggested', async () => {
    const error = await refused(
      'fs.mounts = [{ type = "encrypted", path = "/", uri = "file:a", keyname = "x" }]\n',
      BASE,
    );
    expect(error).toMatchObject({ details: { key: 'fs.mounts[0].keyname' }, hint: 'did you mean "key_name"?' });
  });
});

describe('wrong values', () => {
  test.each([
    ['sgx.max_threads = "4"', 'sgx.max_threads'],
    ['sgx.max_threads = 4.0', 'sgx.max_threads'],
    ['sgx.max_threads = true', 'sgx.max_threads'],
    ['sgx.debug = 1', 'sgx.debug'],
    ['sgx.remote_attestation = "epid"', 'sgx.remote_attestation'],
    ['sgx.cpu_features.mpx = "unspecified"', 'sgx.cpu_features.mpx'],
    ['sgx.trusted_files = [{ uri = "file:x", sha256 = "zz" }]', 'sgx.trusted_files[0].sha256'],
    ['loader.env.A = 1', 'loader.env.A'],
    ['loader.env.A = { passthrough = false }', 'loader.env.A'],
    ['loader.argv = "x"', 'loader.argv'],
    ['sys.allowed_ioctls = [{ struct = "s" }]', 'sys.allowed_ioctls[0].request_code'],
  ])('%s', async (line, key) => {
    const error = await refused(`${line}\n`);
    expect(error).toMatchObject({ code: 'ERR_GRAMINE_VALUE', exitCode: 2, details: { key } });
    expect(error.message).toContain(`"${key}"`);
  });

  test.each([
    ['', 'fs'],
    ['fs.mounts = [{ path = "/" }]', 'fs.mounts[0].uri'],
    ['fs.mounts = [{ path = "/", type = "encrypted" }]', 'fs.mounts[0].uri'],
    ['fs.mounts = [{ path = "/", uri = "file:x", type = "ramfs" }]', 'fs.mounts[0].type'],
    ['fs.mounts = ["x"]', 'fs.mounts[0]'],
  ])('%s', async (line, key) => {
    expect(await refused(`${line}\n`, BASE)).toMatchObject({ code: 'ERR_GRAMINE_VALUE', details: { key } });
  });
});
