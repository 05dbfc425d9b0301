import { printable } from '../core/printable.ts';

/** Text that is HTML already; made by `html` alone, so that everything else is escaped. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Value = string | number | Html | Html[] | undefined | false;

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Safe between tags and inside quoted attributes. Control and direction characters become visible. */
export const escapeHtml = (text: string): string => printable(text).replace(/[&<>"']/g, (sign) => ENTITIES[sign] ?? '');

/** A template whose values are escaped unless they are HTML; lists are joined, undefined and false leave nothing. */
export function html(parts: TemplateStringsArray, ...values: Value[]): Html {
  return new Html(parts.map((part, index) => (index === 0 ? part : `${show(values[index - 1])}${part}`)).join(''));
}

function show(value: Value): string {
  if (value === undefined || value === false) return '';
  if (value instanceof Html) return value.text;
  if (Array.isArray(value)) return value.map(show).join('');
  return escapeHtml(String(value));
}
