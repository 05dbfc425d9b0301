const SHADES = [' ', '░', '▒', '▓', '█'];

/**
 * Draws a small grey image (values 0 to 16, row by row, `width` to the row), one line to the row, without a line feed at the end.
 * A pixel is two characters wide, so that it looks square; its value is the nearest of five shades of plain block characters: no colour
 * codes, so it reads the same in a terminal, a pipe and a log. Values outside the range are drawn as the nearest inside it.
 */
export function drawDigit(pixels: readonly number[], width = 8): string {
  const lines: string[] = [];
  for (let start = 0; start < pixels.length; start += width) {
    lines.push(
      pixels
        .slice(start, start + width)
        .map((value) => shade(value).repeat(2))
        .join(''),
    );
  }
  return lines.join('\n');
}

function shade(value: number): string {
  const level = Math.round((Math.min(Math.max(value, 0), 16) / 16) * (SHADES.length - 1));
  return SHADES[level] ?? ' ';
}
