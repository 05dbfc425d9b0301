/** What the page of `diff` has beside the style of a verdict: two columns of text or bytes, one above the other on a phone. */
export const DIFF_STYLE = `
body { max-width: 72rem; } th { white-space: normal; }
@media (min-width: 40.01rem) { td.hex { width: 36%; } }
.same { margin-top: .5rem; } .groups { padding-left: 1.2rem; margin: .25rem 0 .5rem; }
.item { border-top: 1px solid var(--line); padding: .35rem 0; }
.item > summary code { font-weight: 600; }
.why { margin: .4rem 0 .25rem; padding-left: 1.2rem; }
.cause::after { content: ":"; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; margin: .35rem 0; }
.sides pre { margin: 0; padding: .4rem 0; min-width: 0; border: 1px solid var(--line); border-radius: .4rem; overflow-x: auto;
  font: .75rem/1.45 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
.sides pre::before { content: attr(aria-label); display: block; padding: 0 .6rem; color: var(--soft); }
.sides span { display: block; padding: 0 .6rem; white-space: pre; width: max-content; min-width: 100%; }
.gone { background: var(--failbg); } .come { background: var(--passbg); } .both { color: var(--soft); }
@media (max-width: 48rem) { .sides { grid-template-columns: 1fr; } }
`;
