/**
 * Attested inference (a request inside a running enclave, receipt included; beside it, over the host's channel too) against plain onnxruntime-node
 * on the same model and input, in turn: the example's digits, and a generated model of about 10 ms.
 * Needs `npm run build`, and namespaces: see docs.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseInferRequest } from '../src/enclave/infer-request.ts';
import { loadOnnxModel } from '../src/enclave/onnx-model.ts';
import { writeKeyFiles } from '../src/keys/index.ts';
import { build } from '../src/tasks/build/index.ts';
import { startEnclave } from '../src/tasks/enclave.ts';
import { lockProject } from '../src/tasks/lock/index.ts';
import { seal } from '../src/tasks/seal.ts';
import { median, report } from './lib.ts';
import { matmulChain } from './onnx-writer.ts';

const directory = mkdtempSync(join(tmpdir(), 'atoma-tee-bench-'));
const key = (name: string) => join(directory, name);
const PAUSE_MS = 10;
const WARM_UP = 100;

/** Builds, seals and serves a model, and measures both ways of asking it. */
async function measure(name: string, model: Buffer, input: Buffer, rounds: number) {
  const project = join(directory, name);
  mkdirSync(project);
  writeFileSync(join(project, 'model.onnx'), model);
  const toml = `name = "${name}"\nversion = "1"\ntargets = ["nitro"]\n[model]\npath = "model.onnx"\nowner = "../owner.pub"\n[runtime]\nkind = "onnx"\n`;
  writeFileSync(join(project, 'enclave.toml'), toml);
  await lockProject(project);
  const { manifest } = await build({ project });
  const sealed = join(project, 'model.sealed');
  const allowSimulated = ['local'];
  const brokers = [key('broker.pub')];
  const path = join(project, 'model.onnx');
  await seal({ model: path, manifest, ownerKey: key('owner'), brokers, out: sealed, threshold: 1, allowSimulated });
  const enclave = await startEnclave({ manifest, model: sealed, brokerKeys: [key('broker')], allowSimulated });
  try {
    const plain = await loadOnnxModel(path);
    const { inputs, outputs } = parseInferRequest(input, plain);
    // Inside: from the last byte of the request to its receipt. Outside: over the channel as well.
    const times: Record<'plain' | 'inside' | 'outside', number[]> = { plain: [], inside: [], outside: [] };
    for (let round = -WARM_UP; round < rounds; round++) {
      // onnxruntime's threads spin for a while after a run; the other side is not to pay for it.
      await sleep(PAUSE_MS);
      const plainBegan = performance.now();
      await plain.run(inputs, outputs);
      const plainMs = performance.now() - plainBegan;
      await sleep(PAUSE_MS);
      const began = performance.now();
      const reply = await enclave.request({ method: 'POST', path: `/v2/models/${name}/infer`, body: input });
      const outsideMs = performance.now() - began;
      if (reply.status !== 200) throw new Error(reply.body.toString());
      if (round < 0) continue;
      times.plain.push(plainMs);
      times.outside.push(outsideMs);
      times.inside.push(Number(/total;dur=([0-9.]+)/.exec(String(reply.headers['server-timing']))?.[1]));
    }
    const [ms, inside, outside] = [median(times.plain), median(times.inside), median(times.outside)];
    const text = [ms, inside, outside].map((value) => value.toFixed(2));
    console.log(
      `${name}: plain ${text[0]} ms, attested ${text[1]} ms, over the channel ${text[2]} ms; request ${input.length} bytes`,
    );
    return { inside: inside / ms, outside: outside / ms };
  } finally {
    await enclave.stop();
  }
}

try {
  await writeKeyFiles('owner', key('owner'));
  await writeKeyFiles('broker', key('broker'));
  const example = join(import.meta.dirname, '../examples/digits');
  const digits = await measure(
    'digits',
    readFileSync(join(example, 'model/digits.onnx')),
    readFileSync(join(example, 'inputs/00.json')),
    300,
  );
  const widths = [64, ...Array<number>(90).fill(256), 16];
  const x = { name: 'x', datatype: 'FP32', shape: [1, 64], data: Array.from({ length: 64 }, (_, i) => i / 64) };
  const input = Buffer.from(JSON.stringify({ inputs: [x] }));
  const chain = await measure('chain', matmulChain({ rows: 128, widths }), input, 200);
  report('attested / plain, digits', digits.inside);
  report('attested / plain, about 10 ms', chain.inside, 1.05);
  report('over the channel / plain, digits', digits.outside);
  report('over the channel / plain, about 10 ms', chain.outside);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
