import { parse, tokenize } from '@huggingface/jinja';
import { AtomaError } from '../core/errors.ts';
import { globalScope, type TemplateContext } from './template-globals.ts';
import { TemplateRun } from './template-run.ts';
import { type Node, nodes, Scope } from './template-scope.ts';
import { templateError } from './template-values.ts';

export type { TemplateContext } from './template-globals.ts';

/** Characters. Gramine's own examples have a few thousand. */
const MAX_TEMPLATE = 1 << 20;
/** The lexer takes the square of a run of white space. */
const MAX_SPACES = 1000;

/**
 * Renders a Jinja template of a manifest to the text that Gramine's tools would make of it: jinja2 with StrictUndefined,
 * keep_trailing_newline and no escaping. @huggingface/jinja parses; what the tree means is ours (template-run.ts), because its runtime
 * is made for chat templates: undefined names are empty there, true prints in lower case, and 1 equals "1".
 *
 * Templates are bounded in size, steps, ranges and text. Not bounded: what programs do that a template has us run (`ldd`,
 * `python.get_sys_path`), beyond 30 seconds and 16 MiB each.
 *
 * Errors: `ERR_GRAMINE_TEMPLATE` (also for what is Jinja but not supported), `ERR_GRAMINE_MISSING`, `ERR_GRAMINE_PROGRAM`.
 */
export function renderTemplate(text: string, context: TemplateContext): string {
  // A complete manifest may be long, and has nothing to render.
  if (!/\{[{%#]/.test(text)) return text;
  try {
    const tree = parseTemplate(text);
    const scope = new Scope(globalScope(context));
    const rendered = new TemplateRun(context.directory).block(nodes(tree.body), scope);
    if (!rendered.isWellFormed()) throw templateError('expected Unicode text, found half of a surrogate pair');
    return rendered;
  } catch (error) {
    if (error instanceof RangeError)
      throw inFile(templateError('expected a template of less depth and text'), context.file);
    throw error instanceof AtomaError ? inFile(error, context.file) : error;
  }
}

const inFile = (error: AtomaError, file: string): AtomaError =>
  Object.assign(error, {
    message: error.message.startsWith(`${file}: `) ? error.message : `${file}: ${error.message}`,
  });

function parseTemplate(text: string): Node {
  // Python reads text files so, and Jinja normalises again.
  const source = text.replace(/\r\n?/g, '\n');
  if (source.length > MAX_TEMPLATE) throw templateError(`expected a template of at most ${MAX_TEMPLATE} characters`);
  if (new RegExp(`\\s{${MAX_SPACES + 1}}`).test(source))
    throw templateError(`expected at most ${MAX_SPACES} blanks and line ends in a row`);
  const tag = /\{%[-+]?\s*(end)?(generation|raw)\b/.exec(source);
  if (tag) throw templateError(`unsupported: the statement "${tag[1] ?? ''}${tag[2]}"`);
  try {
    // The lexer takes off one line end; Gramine keeps it.
    return parse(tokenize(`${source}\n`)) as unknown as Node;
  } catch (error) {
    if (error instanceof RangeError) throw error;
    // Past the last token the parser reads a property of undefined.
    const why = error instanceof TypeError ? 'it ends within a statement or an expression' : (error as Error).message;
    throw templateError(`not a template that can be read: ${why}`);
  }
}
