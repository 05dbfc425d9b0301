import { describe, expect, test } from 'vitest';
import type { MeasuredConfig } from '../../../src/core/measured-config.ts';
import { checkContentType, checkPath, readResponse, requestPath } from '../../../src/tasks/inference.ts';

const command = { runtime: { kind: 'command' } } as Pick<MeasuredConfig, 'runtime'>;
const onnx = { runtime: { kind: 'onnx' } } as Pick<MeasuredConfig, 'runtime'>;
const reply = (body: string | Buffer, status = 200, type = 'application/json') => ({
  status,
  headers: { 'content-type': type },
  body: Buffer.from(body),
});
const tensor = { name: 'label', datatype: 'INT64', shape: [1], data: [8] };

describe('the path of the request', () => {
  test('the inference path of the project, unless another is given', () => {
    const config = { project: 'digits' } as MeasuredConfig;
    expect(requestPath(config)).toBe('/v2/models/digits/infer');
    expect(requestPath(config, '/v1/generate')).toBe('/v1/generate');
  });

  test.each(['v1/generate', '', '/a b', '/a\r\nx: y', '/é', `/${'x'.repeat(3000)}`])('%j is none', (path) => {
    expect(() => checkPath(path)).toThrow(expect.objectContaining({ code: 'ERR_USAGE', exitCode: 2 }));
  });
});

test('a content type cannot bring a header of its own', () => {
  checkContentType('text/plain; charset=utf-8');
  expect(() => checkContentType('a\r\nx: y')).toThrow(expect.objectContaining({ code: 'ERR_USAGE', exitCode: 2 }));
});

describe('the answer', () => {
  test('outputs of the protocol, from a model as from a command', () => {
    const body = JSON.stringify({ model_name: 'm', outputs: [tensor] });
    for (const config of [onnx, command]) expect(readResponse(reply(body), config)).toEqual({ outputs: [tensor] });
  });

  test('anything else of a command is summed up: its type, its length, the start of its text', () => {
    const text = 'x'.repeat(5000);
    expect(readResponse(reply(text, 201, 'text/plain'), command)).toEqual({
      outputs: [],
      reply: { bytes: 5000, contentType: 'text/plain', text: text.slice(0, 2000) },
    });
    expect(readResponse(reply(Buffer.from([0xff, 0xfe]), 200, 'image/png'), command)).toEqual({
      outputs: [],
      reply: { bytes: 2, contentType: 'image/png' },
    });
  });

  test('what only looks like outputs is not taken for them', () => {
    const body = JSON.stringify({ outputs: [{ name: 'x' }] });
    expect(readResponse(reply(body), command)).toMatchObject({ outputs: [], reply: { text: body } });
    expect(() => readResponse(reply(body), onnx)).toThrow(expect.objectContaining({ code: 'ERR_INFERENCE' }));
  });

  test('an error status is an error, with the reason in it, printable', () => {
    const refused = reply('{"error": "no\\u001b[2Jsuch input"}', 400);
    expect(() => readResponse(refused, command)).toThrow(
      expect.objectContaining({
        code: 'ERR_INFERENCE',
        exitCode: 2,
        message: expect.stringMatching(/\(400\): no \[2Jsuch input$/),
      }),
    );
    expect(() => readResponse(reply('down', 502), command)).toThrow(expect.objectContaining({ exitCode: 1 }));
  });
});
