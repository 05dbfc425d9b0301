import { chmodSync, cpSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stagePath } from './stage-process.ts';

/** The files that the stage needs on the host: Node, and the stage itself. */
export interface Toolkit {
  node: string;
  stage: string;
}

/**
 * Where the stage can be started from by the user that will run it. A launcher that is root gives root up, and a toolkit
 * in /root, or installed under a strict umask, is then out of reach: the few files that the stage needs are copied into
 * `directory`, for as long as the launch lives.
 */
export function withReadableToolkit(directory: string, owner: number | undefined): Toolkit {
  const toolkit = { node: process.execPath, stage: stagePath() };
  const readable = owner === undefined || [toolkit.node, toolkit.stage, koffiPath()].every(readableByAll);
  return readable ? toolkit : copyToolkit(directory);
}

const koffiPath = () => fileURLToPath(import.meta.resolve('koffi'));

/** Node, the stage and what it imports, readable by everybody. */
export function copyToolkit(directory: string): Toolkit {
  const stage = stagePath();
  const copy = join(directory, 'toolkit');
  const sources = dirname(dirname(stage));
  const modules = dirname(dirname(koffiPath()));
  const wanted: [from: string, to: string][] = [
    [process.execPath, 'node'],
    [join(dirname(sources), 'package.json'), 'package/package.json'],
    ...['launch', 'image', 'core'].map((part): [string, string] => [join(sources, part), `package/src/${part}`]),
    ...['koffi', '@koromix'].map((name): [string, string] => [join(modules, name), `package/node_modules/${name}`]),
  ];
  mkdirSync(copy);
  for (const [from, to] of wanted) cpSync(from, join(copy, to), { recursive: true, dereference: true });
  for (const path of ['', ...readdirSync(copy, { recursive: true, encoding: 'utf8' })])
    chmodSync(join(copy, path), 0o755);
  return { node: join(copy, 'node'), stage: join(copy, 'package/src/launch', basename(stage)) };
}

function readableByAll(path: string): boolean {
  const every = (at: string): boolean => (statSync(at).mode & 0o1) !== 0 && (dirname(at) === at || every(dirname(at)));
  return (statSync(path).mode & 0o4) !== 0 && every(dirname(path));
}
