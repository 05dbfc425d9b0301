/** What a verdict comes to, in a line and as a page. Pure: from the report of `verify` to text. */
export { caveats, type Headline, headline, reasons } from './headline.ts';
export { type PageExtras, renderPage } from './page.ts';
