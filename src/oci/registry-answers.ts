import type { IncomingMessage } from 'node:http';
import { bodyOf, type RegistryLimits } from './registry-http.ts';

/** Statuses after which the same request may do better. */
export const RETRIED = [408, 429, 500, 502, 503, 504];

/** What a registry says of its refusal: the code of its first error, which is a word. */
export async function reason(response: IncomingMessage, limits: RegistryLimits): Promise<string> {
  let text = '';
  try {
    for await (const chunk of bodyOf(response, limits)) {
      text += Buffer.from(chunk).toString('latin1');
      if (text.length > 65_536) return '';
    }
    const code: unknown = JSON.parse(text).errors[0].code;
    return typeof code === 'string' && /^[A-Z_]{1,64}$/.test(code) ? ` (${code})` : '';
  } catch {
    return '';
  }
}

/** Milliseconds; the header has seconds or a date (RFC 9110, 10.2.3). */
export function retryAfter(header: string | undefined): number {
  if (header === undefined) return 0;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? 0 : Math.max(0, date - Date.now());
}
