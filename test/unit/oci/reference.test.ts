import { describe, expect, test } from 'vitest';
import { AtomaError } from '../../../src/core/errors.ts';
import { parseReference, referenceText } from '../../../src/oci/reference.ts';
import { apiHost, canonicalName, canonicalTag } from '../../../src/oci/registry-names.ts';

const HEX = 'ab'.repeat(32);

describe('parseReference', () => {
  test.each([
    ['docker-archive:app.tar', { kind: 'docker-archive', path: '/p/app.tar' }],
    ['docker-archive:/x/app.tar:me/app:1', { kind: 'docker-archive', path: '/x/app.tar', tag: 'me/app:1' }],
    [
      'docker-archive:../a.tar:localhost:5000/app:1',
      { kind: 'docker-archive', path: '/a.tar', tag: 'localhost:5000/app:1' },
    ],
    ['oci-layout:img', { kind: 'oci-layout', path: '/p/img' }],
    ['oci-layout:img:v1', { kind: 'oci-layout', path: '/p/img', tag: 'v1' }],
    ['dir:root:fs', { kind: 'dir', path: '/p/root:fs' }],
    ['oci:localhost/app', { kind: 'oci', registry: 'localhost', repository: 'app', tag: 'latest' }],
    [
      'oci:Registry.Example:443/a/b_c__d-e.f:T.1-x',
      { kind: 'oci', registry: 'registry.example:443', repository: 'a/b_c__d-e.f', tag: 'T.1-x' },
    ],
    ['oci:127.0.0.1:5000/app:1', { kind: 'oci', registry: '127.0.0.1:5000', repository: 'app', tag: '1' }],
    ['oci:[::1]:5000/app:1', { kind: 'oci', registry: '[::1]:5000', repository: 'app', tag: '1' }],
    [
      `oci:registry.example/app@sha256:${HEX}`,
      { kind: 'oci', registry: 'registry.example', repository: 'app', digest: `sha256:${HEX}` },
    ],
    [
      `oci:registry.example/app:1@sha256:${HEX}`,
      { kind: 'oci', registry: 'registry.example', repository: 'app', tag: '1', digest: `sha256:${HEX}` },
    ],
  ])('%s', (text, expected) => {
    const reference = parseReference(text, '/p');
    expect(reference).toEqual(expected);
    expect(parseReference(referenceText(reference), '/elsewhere')).toEqual(expected);
  });

  test.each([
    ['', /no kind/],
    ['app.tar', /no kind/],
    ['docker:app', /the kind "docker"/],
    ['tar:app', /the kind "tar"/],
    ['docker-archive:', /no path/],
    ['docker-archive::app:1', /no path/],
    ['oci-layout:x:', /no tag/],
    ['dir:', /no path/],
    ['oci:app', /no registry/],
    ['oci:library/app:1', /no registry/],
    ['oci://registry.example/app', /a URL/],
    ['oci:user@registry.example/app', /credentials/],
    ['oci:registry.example:99999/app', /no registry/],
    ['oci:[:::]/app', /no registry/],
    ['oci:999.999.999.999/app', /no registry/],
    ['oci:-x.example/app', /no registry/],
    ['oci:registry.example/', /repository name/],
    ['oci:registry.example/App', /repository name/],
    ['oci:registry.example/../../v2/other', /repository name/],
    ['oci:registry.example/a//b', /repository name/],
    ['oci:registry.example/a%2fb', /repository name/],
    ['oci:registry.example/app?x=y', /repository name/],
    ['oci:registry.example/app:../x', /a tag/],
    ['oci:registry.example/app:', /a tag/],
    ['oci:registry.example/app@sha256:../../x', /malformed digest/],
    [`oci:registry.example/app@sha256:${HEX}0`, /malformed digest/],
    [`oci:registry.example/app@md5:${HEX}`, /malformed digest/],
    ['oci:registry.example/app\r\nHost: x', /control character/],
    [`oci:registry.example/${'a'.repeat(300)}`, /repository name/],
    [`dir:${'a'.repeat(10_000)}`, /characters/],
  ])('refuses %j', (text, why) => {
    const parse = () => parseReference(text, '/p');
    expect(parse).toThrow(why);
    expect(parse).toThrow(AtomaError);
    expect(parse).toThrow(expect.objectContaining({ code: 'ERR_OCI_REFERENCE', exitCode: 2 }));
  });

  test.each([
    'oci:user:hunter2@registry.example/app',
    'oci://user:hunter2@registry.example/app@sha256:0',
    'oci:user:hun/ter2@registry.example/app',
    'docker://user:hunter2@registry.example/app',
    'https://user:hunter2@registry.example/app',
  ])('a password in %s is not repeated in the error', (text) => {
    expect(() => parseReference(text, '/p')).toThrow(
      expect.objectContaining({ code: 'ERR_OCI_REFERENCE', message: expect.not.stringMatching(/hunter2|ter2/) }),
    );
  });

  test('a name that makes a regular expression think ends soon', () => {
    expect(() => parseReference(`oci:registry.example/${'a_'.repeat(4000)}!`, '/')).toThrow(/repository name/);
  });
});

test("Docker's registry has one name, its official images one namespace", () => {
  const names = ['docker.io', 'index.docker.io'].map((registry) => canonicalName({ registry, repository: 'python' }));
  expect(new Set(names.map(({ registry, repository }) => `${registry}/${repository}`))).toEqual(
    new Set(['docker.io/library/python']),
  );
  expect(canonicalName({ registry: 'docker.io', repository: 'me/app' }).repository).toBe('me/app');
  expect(canonicalName({ registry: 'localhost:5000', repository: 'app' })).toEqual({
    registry: 'localhost:5000',
    repository: 'app',
  });
  expect(apiHost('docker.io')).not.toBe('docker.io');
  expect(apiHost('localhost:5000')).toBe('localhost:5000');
});

test.each([
  ['app', 'docker.io/library/app:latest'],
  ['app:1', 'docker.io/library/app:1'],
  ['me/app:1', 'docker.io/me/app:1'],
  ['docker.io/library/app:1', 'docker.io/library/app:1'],
  ['localhost/app:1', 'localhost/app:1'],
  ['localhost:5000/app', 'localhost:5000/app:latest'],
])('the tag %s is %s', (text, canonical) => {
  expect(canonicalTag(text)).toBe(canonical);
});
