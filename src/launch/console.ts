import type { Readable } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';

/** How far an enclave came, by what it printed. */
export type BootStage = 'nothing' | 'kernel' | 'init' | 'program';
const STAGES: BootStage[] = ['nothing', 'kernel', 'init', 'program'];

/** What is known about a boot from its console. All of it is the enclave's own word. */
export interface BootFacts {
  stage: BootStage;
  /** The stage that the init named last ("mounts"). */
  initStage?: string;
  /** The last that it said beside that. */
  initWords?: string;
  /** Exit status of the program inside, as the init reported it. */
  status: number | null;
  /** The last lines, printable. */
  tail: string[];
  /** Lines that tell why: of the kernel's panic, of a ramdisk that did not fit, of a module that did not load. */
  panic?: string;
  memory?: string;
  ramdisk?: string;
  /** The init's own look at the ramdisks found them incomplete. */
  incomplete?: string;
  modules: string[];
  /** The error with which the program ended, "ERR_...: ...". */
  error?: string;
}

export interface Console {
  /** Reads an output of the enclave until it ends. */
  listen(output: Readable): void;
  facts(): BootFacts;
  /** Resolves when the program inside has said its first word. */
  program: Promise<void>;
}

/** Of what the image prints, the rest of a line is dropped. */
const LONGEST_LINE = 16 << 10;
const LONGEST_TAIL_LINE = 400;
const TAIL_LINES = 15;
const MOST_MODULES = 5;

/** `onLog` gets every line, without control characters. */
export function createConsole(onLog?: (line: string) => void): Console {
  const facts: BootFacts = { stage: 'nothing', status: null, tail: [], modules: [] };
  const program = Promise.withResolvers<void>();
  const hear = (line: string) => {
    const clean = stripVTControlCharacters(line)
      .replace(/[\p{Cc}\p{Cf}]+/gu, ' ')
      .trimEnd();
    if (clean === '') return;
    facts.tail.push(clean.slice(0, LONGEST_TAIL_LINE));
    if (facts.tail.length > TAIL_LINES) facts.tail.shift();
    learn(facts, clean);
    if (facts.stage === 'program') program.resolve();
    onLog?.(clean);
  };
  return { listen: (output) => onLines(output, hear), facts: () => facts, program: program.promise };
}

/** A kernel's line has its uptime in front, an init's and a program's their name (templates/nitro/init, src/enclave). */
function learn(facts: BootFacts, line: string): void {
  const [, text] = /^\[ *\d+\.\d{3,}\] (.*)$/.exec(line) ?? [];
  if (text !== undefined) {
    reach(facts, 'kernel');
    if (/^Run \/init as init process/.test(text)) reach(facts, 'init');
    if (/^Kernel panic - not syncing: /.test(text)) facts.panic ??= text;
    // init/initramfs.c says this and starts /init all the same.
    if (/^Initramfs unpacking failed: (write error|.*memory)/.test(text)) facts.memory ??= text;
    else if (/^(Initramfs unpacking failed|rootfs image is not initramfs)/.test(text)) facts.ramdisk ??= text;
    if (/Out of memory|deadlocked on memory|oom-kill:/.test(text)) facts.memory ??= text;
    return;
  }
  const [, said] = /^init: (.*)$/.exec(line) ?? [];
  if (said !== undefined) {
    reach(facts, 'init');
    const [, named] = /^stage ([a-z]{1,20})$/.exec(said) ?? [];
    if (named !== undefined) facts.initStage = named;
    else facts.initWords = said.slice(0, LONGEST_TAIL_LINE);
    const [, status] = /^the program ended with status (\d{1,3})\b/.exec(said) ?? [];
    if (status !== undefined) facts.status = Number(status);
    if (/not unpacked whole/.test(said)) facts.incomplete ??= line;
    if (/^cannot load .*\.ko/.test(said) && facts.modules.length < MOST_MODULES) facts.modules.push(line);
    return;
  }
  if (/^atoma-tee: /.test(line)) reach(facts, 'program');
  if (/^(atoma-tee: )?ERR_[A-Z0-9_]+: /.test(line)) {
    reach(facts, 'program');
    facts.error = line.replace(/^atoma-tee: /, '').slice(0, LONGEST_TAIL_LINE);
  }
}

function reach(facts: BootFacts, stage: BootStage): void {
  if (STAGES.indexOf(stage) > STAGES.indexOf(facts.stage)) facts.stage = stage;
}

/** Not readline, which keeps a line that never ends until it ends the process. Of a longer line only the start is told. */
function onLines(input: Readable, tell: (line: string) => void): void {
  let line = '';
  input.setEncoding('utf8');
  input.on('error', () => {});
  input.on('data', (text: string) => {
    const [first = '', ...more] = text.split('\n');
    line = (line + first).slice(0, LONGEST_LINE);
    for (const next of more) {
      tell(line);
      line = next.slice(0, LONGEST_LINE);
    }
  });
  input.on('end', () => {
    if (line !== '') tell(line);
  });
}
