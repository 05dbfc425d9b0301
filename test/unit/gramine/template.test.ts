import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { renderTemplate, type TemplateContext } from '../../../src/gramine/template.ts';
import { thrown, withDirectory } from './manifest-cases.ts';

const render = (text: string, context: Partial<TemplateContext> = {}) =>
  renderTemplate(text, { file: 'test', directory: '/', ...context });
const refused = (text: string, context?: Partial<TemplateContext>) => thrown(() => render(text, context));

/** Templates and what jinja2 3.1.2 makes of them in Gramine's environment, written down from a run of it. */
const JINJA: [template: string, rendered: string][] = [
  ['a\n', 'a\n'],
  ['a', 'a'],
  ['{{ 1 }}\n\n', '1\n\n'],
  ['a\r\n{% set x = 1 -%}\r\n  b {{ x }}\r\n', 'a\nb 1\n'],
  ['  {% if true %}\n  x\n  {% endif %}\ny', '  \n  x\n  \ny'],
  ['a {#- c -#} b {# c #} d\n', 'ab  d\n'],
  ['x {%- if true %} y {%- endif -%}   z', 'x yz'],
  ['{{ true }} {{ none }} {{ 1.0 }} {{ 10 / 5 }}', 'True None 1.0 2.0'],
  [`{{ [1, 'a', "it's", none, (1, 2)] }} {{ {'a': [2]} }}`, `[1, 'a', "it's", None, (1, 2)] {'a': [2]}`],
  ["{{ '1' == 1 }} {{ 1 == 1.0 }} {{ [1] == [1] }} {{ true == 1 }}", 'False True True True'],
  ['{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 3 ** 2 }}', '-4 2 -2 64'],
  ["{{ 'a' ~ 1 ~ none }} {{ 'x' + 'y' }}", 'a1None xy'],
  ["{{ 'x' if false }}|{{ 'x' if '' else 'y' }}", '|y'],
  ["{{ nope | default('x') }} {{ nope is defined }} {{ none | d('y') }}", 'x False None'],
  ["{{ ['b', 'A', 'a'] | sort }} {{ ['a', 'A', 'b'] | unique | join('-') }}", "['A', 'a', 'b'] a-b"],
  ["{{ ' 12 ' | int }} {{ '1.9' | int }} {{ 'x' | int(5) }} {{ -1.9 | int }}", '12 1 5 -1'],
  [`{{ {'b': "<a>'&", 'a': 'é'} | tojson }}`, String.raw`{"a": "\u00e9", "b": "\u003ca\u003e\u0027\u0026"}`],
  ["{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}={{ v }};{% endfor %}", 'b=1;a=2;'],
  [
    "{% for x in [1, 2, 3] if x != 2 %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ',' if not loop.last }}{% endfor %}",
    '1/2:1,2/2:3',
  ],
  ['{% for x in [] %}{{ x }}{% else %}none{% endfor %}', 'none'],
  ['{% set n = 1 %}{% for x in [1, 2] %}{{ n }}{% set n = x * 10 %}{{ n }}{% endfor %}{{ n }}', '1101201'],
  ["{% macro m(a, b='q', c=a) %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, c=2) }}", '<1q1><1q2>'],
  ['{% set n %} t{{ 1 }} {% endset %}[{{ n }}]', '[ t1 ]'],
  ['{{ range(5, 0, -2) | list }}', '[5, 3, 1]'],
  ["{{ {'get': 1}['get'] }} {{ {'a': {'b': 2}}.a.b }} {{ {}.get('x') }}", '1 2 None'],
  ["{{ 'xxaxx'.strip('x') }} {{ ' a b '.split() }} {{ 'a,b'.split(',')[1] }}", "a ['a', 'b'] b"],
  ["{{ '😀bc'[1:] }} {{ '😀bc'[-1] }} {{ '😀' | length }}", 'bc c 1'],
  ["{{ 'true' if env.get('EDMM', '0') == '1' else 'false' }} {{ env.FOO }}", 'false bar'],
  ['{{ 1 if env.get("EDMM", "0") | int > 0 else 8 }}', '8'],
];
const ENV = { FOO: 'bar' };

test.each(JINJA)('%j', (template, rendered) => {
  expect(render(template, { env: ENV })).toBe(rendered);
});

const PYTHON = '/usr/bin/python3';
const haveJinja = existsSync(PYTHON) && existsSync('/usr/lib/python3/dist-packages/jinja2');
test.runIf(haveJinja)('jinja2 itself makes the same of all of them', () => {
  const program = `import json, sys, jinja2
env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
print(json.dumps([env.from_string(t).render(env=${JSON.stringify(ENV)}) for t in json.load(sys.stdin)]))`;
  const templates = JINJA.map(([template]) => template);
  const said = execFileSync(PYTHON, ['-c', program], { input: JSON.stringify(templates), encoding: 'utf8' });
  expect(JSON.parse(said)).toEqual(JINJA.map(([, rendered]) => rendered));
});

describe("Gramine's names", () => {
  test('gramine.*: paths, the function that is a path, and the offsets of the installation', () =>
    withDirectory((dir) => {
      const lib = join(dir, 'lib/x86_64-linux-gnu/gramine');
      mkdirSync(join(lib, 'runtime/glibc'), { recursive: true });
      mkdirSync(join(dir, 'lib/python3/dist-packages'), { recursive: true });
      writeFileSync(join(dir, 'lib/python3/dist-packages/_graminelibos_offsets.py'), 'SGX_LIBPAL = 4096\n_x = 1\n');
      const text =
        "{{ gramine.libos }} {{ gramine.runtimedir() }} {{ gramine.runtimedir('musl') }} {{ gramine.runtimedir / 'a/../b' }} {{ gramine.SGX_LIBPAL }}";
      expect(render(text, { gramine: lib })).toBe(
        `${lib}/libsysdb.so ${lib}/runtime/glibc ${lib}/runtime/musl ${lib}/runtime/glibc/a/../b 4096`,
      );
    }));

  test('gramine.* without an installation is missing; templates that do not use it do not need it', async () => {
    expect(await refused('{{ gramine.libos }}')).toMatchObject({ code: 'ERR_GRAMINE_MISSING', exitCode: 5 });
    expect(render('{{ 1 }}')).toBe('1');
  });

  test.runIf(existsSync(PYTHON))('python.*: as the interpreter says', () => {
    const program =
      'import sysconfig as s; print(s.get_path("stdlib"), s.get_config_var("EXT_SUFFIX"), s.get_paths()["scripts"])';
    const said = execFileSync(PYTHON, ['-I', '-c', program], { encoding: 'utf8' }).trim();
    expect(render("{{ python.stdlib }} {{ python.ext_suffix }} {{ python.get_path('scripts') }}")).toBe(said);
    const paths = render(
      `{% for p in python.get_sys_path('${PYTHON}') %}{{ p }}{{ '/' if p.is_dir() else '' }}\n{% endfor %}`,
    );
    expect(paths).toMatch(/^\/.*\/\n/);
  });

  test.runIf(existsSync('/usr/bin/ldd'))('ldd(): libraries, sorted', () => {
    const libraries = render("{{ ldd('/bin/sh') | join('\n') }}").split('\n');
    expect(libraries.some((path) => /^\/.*libc\.so/.test(path))).toBe(true);
    expect(libraries).toEqual([...libraries].sort());
  });

  test('-D hides a global', () => {
    expect(render('{{ env }} {{ x }}', { defines: { env: 'mine', x: true } })).toBe('mine True');
  });
});

describe('undefined names are errors that name them', () => {
  test.each([
    ['{{ log_level }}', 'log_level'],
    ['{{ env.NOPE }}', 'env.NOPE'],
    ['{{ env["NOPE"] }}', 'env[NOPE]'],
    ['{% if nope %}{% endif %}', 'nope'],
    ['{% for x in nope %}{% endfor %}', 'nope'],
    ['{{ nope ~ "x" }}', 'nope'],
    ['{{ nope | upper }}', 'nope'],
    ['{{ nope.more | default(1) }}', 'nope'],
    ['{% macro m(a) %}{{ a }}{% endmacro %}{{ m() }}', 'parameter "a" of the macro "m"'],
    ['{{ loop.index }}', 'loop'],
  ])('%s', async (text, name) => {
    const error = await refused(text, { env: {} });
    expect(error).toMatchObject({ code: 'ERR_GRAMINE_TEMPLATE', exitCode: 2 });
    expect(error.message).toContain(name);
  });
});

describe('a template cannot reach the host', () => {
  // Known ways out of nunjucks, jinja2 and other engines, and those that fit the values here.
  test.each([
    'env.constructor',
    'env["constructor"]',
    'env.__proto__',
    'env["__proto__"]',
    '"".constructor.constructor("return process")()',
    'range.constructor("return process")()',
    'range["constructor"]',
    'range.call',
    'range.__proto__',
    'range.name',
    '[].constructor',
    '[]["__proto__"]["constructor"]',
    '[].map',
    '[].length',
    '{}.constructor',
    '{}.hasOwnProperty',
    '{"a": 1}.valueOf()',
    '(1).constructor',
    '(1).toString()',
    'true.constructor',
    '"x".toString()',
    '"x".length',
    '"x".replaceAll',
    '"".sub.call',
    '"".upper.constructor',
    '"".upper.__globals__',
    '"".__class__.__mro__',
    'self.__init__.__globals__',
    'gramine.pkglibdir.text',
    'gramine.pkglibdir.constructor',
    'gramine.runtimedir.call',
    'cycler.__init__.__globals__.os',
    'lipsum.__globals__',
    'joiner',
    'namespace',
    'process',
    'globalThis',
    'global',
    'require',
    'this',
    'toString',
    'constructor',
    '__proto__',
    'raise_exception',
    'strftime_now',
    'loop',
    'caller',
    '[1] | map(attribute="constructor")',
    '"x" | attr("constructor")',
    '[{}] | selectattr("constructor")',
  ])('{{ %s }}', async (expression) => {
    const context = { env: { A: 'x' }, gramine: '/nonexistent' };
    expect((await refused(`{{ ${expression} }}`, context)).code).toBe('ERR_GRAMINE_TEMPLATE');
  });

  test('names of the host are names like any other when they are defined', () => {
    const defines = Object.fromEntries([
      ['__proto__', 'p'],
      ['constructor', 'c'],
      ['toString', 't'],
    ]);
    expect(render('{{ __proto__ }}{{ constructor }}{{ toString }}', { defines })).toBe('pct');
    expect(render("{% set d = {'__proto__': {'x': 1}} %}{{ d.__proto__.x }}{{ {}.x is defined }}")).toBe('1False');
  });

  test('only what is called python is run as one', async () => {
    for (const name of ['/bin/sh', 'python3; id', '--version', '/tmp/notpython', 'python3/../sh']) {
      expect((await refused(`{{ python.get_sys_path('${name}') | list }}`)).code).toBe('ERR_GRAMINE_TEMPLATE');
    }
  });

  test('a path that looks like an option of ldd is a path', async () => {
    expect((await refused("{{ ldd('--version') }}")).code).toBe('ERR_GRAMINE_TEMPLATE');
  });
});

describe('a template ends, and in bounds', () => {
  const DOUBLE = (n: number) => `{% set x = 'xxxxxxxxxxxxxxxx' %}${'{% set x = x ~ x %}'.repeat(n)}`;
  test.each([
    ['a range', '{% for i in range(10 ** 9) %}{% endfor %}'],
    ['loops in loops', `${'{% for i in range(1000) %}'.repeat(4)}x${'{% endfor %}'.repeat(4)}`],
    ['doubled text', `${DOUBLE(40)}{{ x }}`],
    ['doubled text that is thrown away', `${DOUBLE(19)}{% for i in range(1000) %}{% set y = x ~ i %}{% endfor %}`],
    ['doubled lists', `{% set x = [1] %}${'{% set x = x + x %}'.repeat(40)}`],
    ['replaced text', `${DOUBLE(18)}{{ x.replace('x', x) }}`],
    ['joined text', `${DOUBLE(18)}{{ x.join(range(1000) | list) }}{{ [x, x, x, x, x, x, x, x] | join(x) }}`],
    ['lists in lists, printed', `{% set x = [1] %}${'{% set x = [x, x] %}'.repeat(60)}{{ x }}`],
    ['dicts in dicts, compared', `{% set x = {'a': 1} %}${"{% set x = {'a': x, 'b': x} %}".repeat(60)}{{ x == x }}`],
    ['powers', '{{ 2 ** 64 ** 64 ** 64 }}'],
    ['products', `{% set x = 2 ** 64 %}${'{% set x = x * x %}'.repeat(40)}`],
    ['a macro that calls itself', '{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}'],
    [
      'a macro that calls itself twice',
      '{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}',
    ],
    ['parentheses', `{{ ${'('.repeat(50_000)}1${')'.repeat(50_000)} }}`],
    ['statements in statements', `${'{% if true %}'.repeat(20_000)}${'{% endif %}'.repeat(20_000)}`],
    ['blanks', ' '.repeat(500_000)],
    ['length', `{{ 1 }}${'x'.repeat(1 << 20)}`],
  ])('%s', async (_, text) => {
    const error = await refused(text.includes('{') ? text : `${text}{{ 1 }}`);
    expect(error).toMatchObject({ code: 'ERR_GRAMINE_TEMPLATE', exitCode: 2 });
  });
});

describe('what is Jinja but not supported is said, and what is neither', () => {
  test.each([
    ["{% include 'x' %}", 'include'],
    ["{% extends 'x' %}", 'extends'],
    ["{% import 'x' as y %}", 'import'],
    ['{% raw %}{{ x }}{% endraw %}', 'raw'],
    ['{% generation %}x{% endgeneration %}', 'generation'],
    ['{% macro m() %}{% endmacro %}{% call m() %}{% endcall %}', 'call'],
    ['{% for x in [1] %}{% break %}{% endfor %}', 'break'],
    ['{{ 1 < 2 < 3 }}', 'comparisons'],
    ["{{ 1 + 2 ~ 'a' }}", '~'],
    ["{{ 'x' | format }}", 'format'],
    ["{{ 'x' | upper(1) }}", 'upper'],
    ["{{ 'x' | default(valeu=1) }}", 'valeu'],
    ['{{ 1 is divisibleby }}', 'divisibleby'],
    ["{{ 'a' + 1 }}", 'a string and an integer'],
    ["{{ 'x'.strip('a', 'b') }}", 'strip'],
    ['{{ range(3) }}', 'list'],
    ['{{ range }}', 'a function'],
    ['{{ 9007199254740993 }}', '53 bits'],
    ['{{ 1 ', 'Unexpected end'],
    ['{% if true %}', 'ends within'],
    ['{{ 1 / 0 }}', 'zero'],
    [String.raw`{{ "\ud800" }}`, 'surrogate'],
  ])('%s', async (text, why) => {
    const error = await refused(text);
    expect(error).toMatchObject({ code: 'ERR_GRAMINE_TEMPLATE', exitCode: 2 });
    expect(error.message).toContain(why);
    expect(error.message).toMatch(/^test: /);
  });
});

test('our own template for model serving renders', () => {
  const text = readFileSync(join(import.meta.dirname, '../../../templates/gramine/onnx.manifest.template'), 'utf8');
  expect(render(text, { defines: { root: 'app.gramine/root' } })).toContain('file:app.gramine/root/');
});
