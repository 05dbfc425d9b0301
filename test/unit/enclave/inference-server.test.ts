import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ONNX_TYPE, type OnnxType, writeOnnx } from '../../../bench/onnx-writer.ts';
import packageJson from '../../../package.json' with { type: 'json' };
import type { Request } from '../../../src/enclave/http2.ts';
import { createInferenceServer, SERVER_VERSION } from '../../../src/enclave/inference-server.ts';
import { loadOnnxModel } from '../../../src/enclave/onnx-model.ts';
import type { Answered } from '../../../src/enclave/receipts.ts';

const config = {
  version: 1 as const,
  project: 'echo',
  projectVersion: '1.2.3',
  policyVersion: '1',
  model: { digest: 'aa'.repeat(32), owner: 'bb'.repeat(32) },
  runtime: { kind: 'onnx' as const },
};

const TYPES = (Object.keys(ONNX_TYPE) as OnnxType[]).filter((type) => type !== 'FP16');
let directory: string;
const signed: Answered[] = [];

/** A model that gives back what it gets, for each type of tensor. */
async function echoServer(types: OnnxType[], shape: (number | string)[] = ['n']) {
  const path = join(directory, `${types.join('-')}.onnx`);
  writeFileSync(
    path,
    writeOnnx({
      inputs: types.map((type) => ({ name: `in_${type}`, type, shape })),
      outputs: types.map((type) => ({ name: `out_${type}`, type, shape })),
      nodes: types.map((type) => ({ op: 'Identity', inputs: [`in_${type}`], outputs: [`out_${type}`] })),
    }),
  );
  const handler = createInferenceServer({
    config,
    model: await loadOnnxModel(path),
    sign: (answered) => {
      signed.push(answered);
      return Buffer.from('a receipt');
    },
    evidenceFile: async (nonce) =>
      Buffer.from(JSON.stringify({ nonce: nonce ? Buffer.from(nonce).toString('hex') : null })),
  });
  return async (
    method: string,
    path: string,
    body: string | Buffer | object = '',
    headers: Request['headers'] = {},
  ) => {
    const bytes = Buffer.isBuffer(body) ? body : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
    const response = await handler({ method, path, headers, body: bytes });
    const text = Buffer.from(response.body as Uint8Array).toString();
    return { status: response.status, headers: response.headers, text, json: JSON.parse(text) };
  };
}
type Ask = Awaited<ReturnType<typeof echoServer>>;
const INFER = '/v2/models/echo/infer';

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('Open Inference Protocol v2', () => {
  let ask: Ask;
  beforeAll(async () => {
    ask = await echoServer(['FP32'], ['batch', 2]);
  });

  test('server, health and model metadata', async () => {
    expect((await ask('GET', '/v2')).json).toEqual({
      name: 'atoma-tee',
      version: SERVER_VERSION,
      extensions: ['attestation', 'receipt'],
    });
    expect(SERVER_VERSION).toBe(packageJson.version);
    expect((await ask('GET', '/v2/health/live')).json).toEqual({ live: true });
    expect((await ask('GET', '/v2/health/ready')).json).toEqual({ ready: true });
    const model = {
      name: 'echo',
      versions: ['1.2.3'],
      platform: 'onnxruntime_onnx',
      inputs: [{ name: 'in_FP32', datatype: 'FP32', shape: [-1, 2] }],
      outputs: [{ name: 'out_FP32', datatype: 'FP32', shape: [-1, 2] }],
    };
    for (const path of ['/v2/models/echo', '/v2/models/echo/versions/1.2.3']) {
      expect((await ask('GET', path)).json).toEqual(model);
      expect((await ask('GET', `${path}/ready`)).json).toEqual({ ready: true });
    }
  });

  test('an inference, with the receipt over the exact bytes and the id given back', async () => {
    const body =
      '{ "id": "7", "inputs": [{"name":"in_FP32","datatype":"FP32","shape":[2,2],"data":[1,-2.5,3e3,0.1]}] }';
    const answer = await ask('POST', '/v2/models/echo/versions/1.2.3/infer', body, {
      'atoma-nonce': '00112233445566ff',
    });
    expect(answer).toMatchObject({ status: 200, headers: { 'atoma-receipt': ':YSByZWNlaXB0:' } });
    expect(answer.json).toEqual({
      model_name: 'echo',
      model_version: '1.2.3',
      id: '7',
      outputs: [{ name: 'out_FP32', datatype: 'FP32', shape: [2, 2], data: [1, -2.5, 3000, Math.fround(0.1)] }],
    });
    const last = signed.at(-1);
    expect(Buffer.from(last?.request ?? '').toString()).toBe(body);
    expect(Buffer.from(last?.response ?? '').toString()).toBe(answer.text);
    expect(Buffer.from(last?.nonce ?? '').toString('hex')).toBe('00112233445566ff');
  });

  test('nested data and a choice of outputs', async () => {
    const input = {
      name: 'in_FP32',
      datatype: 'FP32',
      shape: [2, 2],
      data: [
        [1, 2],
        [3, 4],
      ],
    };
    const answer = await ask('POST', INFER, { inputs: [input], outputs: [{ name: 'out_FP32' }] });
    expect(answer.json.outputs[0].data).toEqual([1, 2, 3, 4]);
  });

  const good = { name: 'in_FP32', datatype: 'FP32', shape: [1, 2], data: [1, 2] };
  const one = (change: object) => ({ inputs: [{ ...good, ...change }] });
  test.each<[what: string, body: string | Buffer | object, says: string]>([
    ['not JSON', '{"inputs":', 'expected a request in JSON'],
    ['not UTF-8', Buffer.from([0x22, 0xff, 0x22]), 'expected a request in JSON'],
    ['deeply nested', '['.repeat(100_000), 'expected a request in JSON'],
    ['deeply nested and valid', `${'['.repeat(50_000)}1234567890123456789${']'.repeat(50_000)}`, 'expected a'],
    ['a list', [], 'expected a JSON object'],
    ['no inputs', {}, 'expected "inputs"'],
    ['a wrong name', one({ name: 'image' }), 'expected inputs "in_FP32", found "image"'],
    ['a name of the prototype', one({ name: '__proto__' }), 'expected inputs "in_FP32", found "__proto__"'],
    ['a missing input', { inputs: [] }, 'expected inputs "in_FP32", found none called "in_FP32"'],
    ['an input twice', { inputs: [good, good] }, 'given twice'],
    ['a wrong type', one({ datatype: 'INT64' }), 'input "in_FP32": expected datatype FP32, found "INT64"'],
    ['a wrong shape', one({ shape: [1, 3] }), 'input "in_FP32": expected shape [batch,2], found [1,3]'],
    ['a wrong rank', one({ shape: [2] }), 'input "in_FP32": expected shape [batch,2], found [2]'],
    ['a negative size', one({ shape: [-1, 2] }), 'expected "shape" to be a list of sizes'],
    ['too few values', one({ data: [1] }), 'expected 2 values for shape [1,2], found 1'],
    ['sizes beyond memory', one({ shape: [2 ** 50, 2] }), 'found 2'],
    ['text in numbers', one({ data: [1, '2'] }), 'value 1: expected a number within the range of FP32, found "2"'],
    [
      'an integer too large for JSON, inside an object',
      JSON.stringify(one({ data: [1, { a: 'N' }] })).replace('"N"', '12345678901234567890'),
      'value 1: expected a number within the range of FP32, found an object',
    ],
    [
      'a datatype nested deeply',
      JSON.stringify(one({ datatype: 'D' })).replace('"D"', `${'['.repeat(5000)}${']'.repeat(5000)}`),
      'expected datatype FP32, found a list',
    ],
    ['null', one({ data: [1, null] }), 'value 1'],
    ['beyond a single', one({ data: [1, 1e39] }), 'value 1'],
    ['badly nested', one({ data: [[1], [2]] }), 'not nested as shape'],
    ['binary data', one({ data: undefined, parameters: { binary_data_size: 8 } }), 'binary data is not supported'],
    ['an unknown output', { inputs: [good], outputs: [{ name: 'y' }] }, 'expected outputs "out_FP32", found "y"'],
    ['an output twice', { inputs: [good], outputs: [{ name: 'out_FP32' }, { name: 'out_FP32' }] }, 'twice'],
    ['an id that is no string', { id: 7, inputs: [good] }, 'expected "id"'],
  ])('a bad request (%s) is a 400 that says what was expected, and the next one is served', async (_, body, says) => {
    const answer = await ask('POST', INFER, body);
    expect(answer.status).toBe(400);
    expect(answer.json.error).toContain(says);
    expect((await ask('POST', INFER, { inputs: [good] })).status).toBe(200);
  });

  test('another path, model, version or method', async () => {
    for (const path of [
      '/',
      '/v2/models/other',
      '/v2/models/echo/versions/2',
      '/v2/models/%ff',
      '/v2/models/echo/x',
      '//',
    ]) {
      expect((await ask('GET', path)).status, path).toBe(404);
    }
    expect((await ask('GET', INFER)).status).toBe(405);
    expect((await ask('POST', '/v2/health/live')).status).toBe(405);
  });

  test('a bad nonce is refused', async () => {
    for (const nonce of ['', 'zz'.repeat(8), '00'.repeat(7), '00'.repeat(65)]) {
      expect((await ask('POST', INFER, { inputs: [good] }, { 'atoma-nonce': nonce })).status).toBe(400);
    }
  });

  test('evidence: boot evidence without a nonce, fresh with one, not too often', async () => {
    expect((await ask('GET', '/.well-known/attestation')).json).toEqual({ nonce: null });
    const nonce = '0123456789abcdef0123456789abcdef';
    expect((await ask('GET', `/.well-known/attestation?nonce=${nonce}`)).json).toEqual({ nonce });
    expect((await ask('GET', '/.well-known/attestation?nonce=00')).status).toBe(400);
    const many = await Promise.all(
      Array.from({ length: 30 }, () => ask('GET', `/.well-known/attestation?nonce=${nonce}`)),
    );
    expect(many.filter(({ status }) => status === 429).length).toBeGreaterThan(10);
  });
});

describe('datatypes', () => {
  const VALUES: Record<string, unknown[]> = {
    BOOL: [true, false],
    BYTES: ['', 'häl\u{1f600}lo "x"'],
    FP32: [-1.5, 3.4028234663852886e38],
    FP64: [1e-300, -1.7976931348623157e308],
    INT8: [-128, 127],
    UINT8: [0, 255],
    INT16: [-32768, 32767],
    UINT16: [0, 65535],
    INT32: [-2147483648, 2147483647],
    UINT32: [0, 4294967295],
  };

  test.each(TYPES)('%s goes in and comes out', async (type) => {
    const ask = await echoServer([type]);
    const wide: Record<string, string> = {
      INT64: '[-9223372036854775808,9223372036854775807]',
      UINT64: '[0,18446744073709551615]',
    };
    const data = wide[type] ?? JSON.stringify(VALUES[type]);
    const body = `{"inputs":[{"name":"in_${type}","datatype":"${type}","shape":[2],"data":${data}}]}`;
    const answer = await ask('POST', INFER, body);
    expect(answer.text).toContain(`"data":${wide[type] ?? ''}`);
    if (wide[type] === undefined) expect(answer.json.outputs[0].data).toEqual(VALUES[type]);
  });

  test.each<[type: OnnxType, data: string]>([
    ['INT8', '[128]'],
    ['UINT8', '[-1]'],
    ['INT32', '[1.5]'],
    ['INT64', '[9223372036854775808]'],
    ['INT64', '[1e17]'],
    ['INT64', '["1"]'],
    ['UINT64', '[-1]'],
    ['BOOL', '[1]'],
    ['BYTES', '[1]'],
    ['BYTES', '["\\ud800"]'],
    ['FP64', '[1e999]'],
  ])('%s does not take %s', async (type, data) => {
    const ask = await echoServer([type]);
    const answer = await ask(
      'POST',
      INFER,
      `{"inputs":[{"name":"in_${type}","datatype":"${type}","shape":[1],"data":${data}}]}`,
    );
    expect(answer.status).toBe(400);
    expect(answer.json.error).toContain('value 0: expected');
  });

  test('FP16 is refused clearly', async () => {
    const ask = await echoServer(['FP16']);
    const answer = await ask('POST', INFER, { inputs: [{ name: 'in_FP16', datatype: 'FP16', shape: [1], data: [1] }] });
    expect(answer).toMatchObject({ status: 400 });
    expect(answer.json.error).toContain('FP16, which has no safe form in JSON');
  });

  test('a dimension that two inputs share must be the same', async () => {
    const ask = await echoServer(['FP32', 'INT32']);
    const tensor = (type: string, size: number) => ({
      name: `in_${type}`,
      datatype: type,
      shape: [size],
      data: Array(size).fill(1),
    });
    const answer = await ask('POST', INFER, { inputs: [tensor('FP32', 2), tensor('INT32', 3)] });
    expect(answer.json.error).toContain('expected n to be 2 as in another input, found 3');
  });

  test('an answer that JSON cannot hold is an error, not a lie', async () => {
    const path = join(directory, 'nan.onnx');
    const value = (name: string) => ({ name, type: 'FP32' as const, shape: [1] });
    writeFileSync(
      path,
      writeOnnx({ inputs: [value('x')], outputs: [value('y')], nodes: [{ op: 'Log', inputs: ['x'], outputs: ['y'] }] }),
    );
    const handler = createInferenceServer({
      config,
      model: await loadOnnxModel(path),
      sign: () => Buffer.alloc(0),
      evidenceFile: async () => Buffer.alloc(0),
    });
    const body = Buffer.from('{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[-1]}]}');
    const answer = await handler({ method: 'POST', path: INFER, headers: {}, body });
    expect(answer.status).toBe(500);
    expect(String(answer.body)).toContain('NaN');
  });

  test('what is not ONNX is refused without its content in the message', async () => {
    const path = join(directory, 'bad.onnx');
    writeFileSync(path, 'secret weights');
    await expect(loadOnnxModel(path)).rejects.toMatchObject({ code: 'ERR_ENCLAVE_MODEL', exitCode: 2 });
  });
});
