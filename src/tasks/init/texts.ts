import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TOOLKIT_DIR } from '../../image/toolkit.ts';
import { parseConfig } from '../../project/config.ts';
import { CONFIG_FILE } from '../../project/load.ts';
import type { ExampleRequest } from './graph.ts';
import { shellWord } from './words.ts';

/** All that the files of a new project say. Paths are relative to its directory, or absolute. */
export interface Plan {
  name: string;
  version: string;
  targets: ('nitro' | 'gramine')[];
  kind: 'onnx' | 'command';
  image: string | undefined;
  command: string[] | undefined;
  port: number;
  model: { path: string; summary: string; size: number; inside: boolean; directory: boolean };
  /** The owner's public key, and the private one where this machine has it. */
  owner: { public: string; private: string | undefined };
  request: ExampleRequest | { reason: string } | undefined;
}

export const KEYS = 'keys';
const MIB = 1 << 20;

/** enclave.toml, checked by the reader of enclave.toml. */
export async function configText(plan: Plan): Promise<string> {
  const text = await render('enclave.toml', {
    ...{ name: toml(plan.name), version: toml(plan.version), targets: `[${plan.targets.map(toml).join(', ')}]` },
    ...{ model: toml(plan.model.path), owner: toml(plan.owner.public) },
    ...{ kind: plan.kind, port: plan.port, image: plan.image === undefined ? '' : toml(plan.image) },
    command: plan.command === undefined ? '' : `[${plan.command.map(toml).join(', ')}]`,
    ...{ nitro: plan.targets.includes('nitro'), gramine: plan.targets.includes('gramine') },
    ...{ memory: memoryMib(plan.model.size), enclave_size: toml(enclaveSize(plan.model.size)) },
    sgx_key: toml(`${KEYS}/sgx.key`),
  });
  parseConfig(text, CONFIG_FILE);
  return text;
}

/** A basic string of TOML: JSON's escapes are among its own, DEL apart. */
const toml = (text: string): string => JSON.stringify(text).replaceAll('\x7f', '\\u007f');

/** The opened model, and again what onnxruntime makes of it. */
export const memoryMib = (size: number): number => 1024 + 256 * Math.round((2 * size) / (256 * MIB));

/** "4G", or the next power of two that holds a larger model beside Node. */
export function enclaveSize(size: number): string {
  let gib = 4;
  while (gib * 1024 * MIB < 2 * size + 2048 * MIB) gib *= 2;
  return `${gib}G`;
}

/** The four commands, for a shell in the project's directory. */
export function commands({ name, model, owner, targets }: Plan): string[] {
  const sealed = `${name}.sealed`;
  const tee = targets.includes('nitro') ? [] : ['--tee gramine'];
  const lines = [
    ['atoma-tee build'],
    [
      `atoma-tee seal ${shellWord(model.path)} --manifest dist/build.intoto.json`,
      `--sign ${shellWord(owner.private ?? 'OWNER.key')} --to ${KEYS}/broker.key.pub`,
      `--recovery ${KEYS}/recovery.key.pub --allow-simulated local --out ${sealed}`,
    ],
    [
      `atoma-tee run dist/build.intoto.json --model ${sealed} --input request.json`,
      ...tee,
      `--broker-key ${KEYS}/broker.key --allow-simulated local`,
      '--receipt receipt.cbor --evidence evidence.json --response response.json',
    ],
    [
      'atoma-tee verify receipt.cbor --evidence evidence.json',
      '--manifest dist/build.intoto.json --request request.json',
      '--response response.json --allow-simulated local',
    ],
  ];
  return lines.map((parts) => parts.join(' \\\n  '));
}

export function readmeText(plan: Plan): Promise<string> {
  const { request } = plan;
  const keys: [file: string, use: string][] = [
    ...(plan.owner.private === undefined
      ? []
      : [
          [
            `${KEYS}/owner.key`,
            'you, the owner: signs sealed models. Whoever has it can put another model into the enclave',
          ] as [string, string],
        ]),
    [`${KEYS}/broker.key`, 'the broker: hands the model to enclaves that the policy accepts'],
    [`${KEYS}/recovery.key`, 'opens the sealed model without a broker'],
    ...(plan.targets.includes('gramine')
      ? [[`${KEYS}/sgx.key`, 'signs the SGX enclave: its digest is MRSIGNER'] as [string, string]]
      : []),
  ];
  return render('README.md', {
    name: plan.name,
    commands: commands(plan).join('\n'),
    request: request === undefined ? 'command' : 'reason' in request ? 'missing' : 'onnx',
    request_reason: request !== undefined && 'reason' in request ? request.reason : '',
    dynamic: request !== undefined && 'dynamic' in request && request.dynamic ? ', and 1 where it takes any size' : '',
    keys: keys.map(([file, use]) => `| \`${file.slice(KEYS.length + 1)}\` | ${use} |`).join('\n'),
  });
}

export const ignoreText = ({ model }: Plan): Promise<string> =>
  render('gitignore', {
    model: model.inside ? `/${model.path.replace(/[\\*?[\]!# ]/g, '\\$&')}${model.directory ? '/' : ''}` : '',
  });

/** Everything but the public halves; it lies in the directory of the keys, so that no other .gitignore matters. */
export const KEYS_IGNORE = '*\n!.gitignore\n!*.pub\n';

async function render(name: string, values: Record<string, string | number | boolean>): Promise<string> {
  const { Template } = await import('@huggingface/jinja');
  const text = await readFile(join(TOOLKIT_DIR, 'templates', 'project', name), 'utf8');
  return `${new Template(text).render(values).trimEnd()}\n`;
}
