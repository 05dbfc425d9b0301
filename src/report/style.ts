/** The page's only style sheet: dark and light by what the reader's system says, one column on a phone. */
export const STYLE = `
:root { color-scheme: light dark; --ink: #16202b; --soft: #55636f; --paper: #f4f6f8; --card: #fff; --line: #d6dde3;
  --pass: #12703c; --fail: #b3201f; --sim: #8a5300; --passbg: #e3f4ea; --failbg: #fce9e8; --simbg: #fdf1da; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #9aa8b5; --paper: #10161c; --card: #18212a; --line: #2e3a46;
  --pass: #5fd193; --fail: #ff8d86; --sim: #f3b95f; --passbg: #123022; --failbg: #3a1817; --simbg: #38290e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; -webkit-text-size-adjust: 100%; }
h1, h2, h3, p { margin: 0; }
h2 { font-size: 1.25rem; margin: 1.75rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
.verdict { border-radius: .75rem; padding: 1.25rem 1.5rem; border: 2px solid; }
.verdict h1 { font-size: clamp(1.4rem, 4.5vw, 2rem); line-height: 1.2; }
.verdict .word { display: block; font-size: clamp(2.2rem, 9vw, 3.5rem); letter-spacing: .04em; }
.verdict p, .verdict ul { color: var(--ink); margin: .5rem 0 0; }
.verdict ul { padding-left: 1.2rem; }
.pass { color: var(--pass); } .fail { color: var(--fail); } .simulated { color: var(--sim); } .skipped { color: var(--soft); }
.verdict.pass { background: var(--passbg); } .verdict.fail { background: var(--failbg); } .verdict.simulated { background: var(--simbg); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .75rem 1rem; margin: .5rem 0; }
.chain { list-style: none; margin: 0; padding: 0; }
.chain li { border-left: 4px solid var(--line); }
.chain li + li { margin-top: 1.1rem; position: relative; }
.chain li + li::before { content: "\\2193"; position: absolute; top: -1.35rem; left: 1rem; color: var(--soft); }
.chain li.pass-edge { border-left-color: var(--pass); } .chain li.fail-edge { border-left-color: var(--fail); }
.name { font-weight: 600; }
.note, dt, .kind { color: var(--soft); font-size: .875rem; }
code, .hex { font: .8125rem/1.45 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; word-break: break-all; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .25rem 0 0; } dd { margin: 0; min-width: 0; }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); }
th, td { text-align: left; vertical-align: top; padding: .5rem .75rem; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-size: .875rem; font-weight: 500; }
td.hex { width: 42%; } th, .mark { white-space: nowrap; font-weight: 600; }
ul.checks { list-style: none; margin: 0; padding: 0; }
ul.checks.card { padding: .25rem .75rem; } .card > ul { margin: .25rem 0; padding-left: 1.2rem; } .card > ul.checks { padding: 0; }
ul.checks li { padding: .3rem 0 .3rem 1.7rem; border-top: 1px solid var(--line); position: relative; }
ul.checks li:first-child { border-top: 0; }
ul.checks .mark { position: absolute; left: .1rem; }
details > summary { cursor: pointer; padding: .25rem 0; }
.download { display: inline-block; margin: .25rem 0; padding: .5rem 1rem; border: 1px solid currentColor; border-radius: .5rem; color: inherit; text-decoration: none; font-weight: 600; }
footer { margin-top: 2rem; border-top: 1px solid var(--line); padding-top: .75rem; color: var(--soft); font-size: .875rem; }
@media (max-width: 40rem) {
  .verdict { padding: 1rem; } dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
  thead { display: none; } table, tbody, tr, td, th[scope=row] { display: block; width: 100%; }
  tr { border-top: 1px solid var(--line); padding: .5rem .75rem; } tr:first-child { border-top: 0; }
  th, td, td.hex { border: 0; padding: .1rem 0; width: 100%; }
  td[data-label]::before { content: attr(data-label) " "; color: var(--soft); font: .8125rem system-ui, sans-serif; display: block; }
}
@media print { body { max-width: none; background: #fff; } }
`;
