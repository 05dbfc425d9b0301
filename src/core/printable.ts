import { stripVTControlCharacters } from 'node:util';

/** Text out of hostile files (names, certificate fields) must not drive the terminal, nor forge a line of ours. */
export const printable = (text: string): string => stripVTControlCharacters(text).replace(/[\p{Cc}\p{Cf}]/gu, '\ufffd');
