import type { ShownArea } from '../tasks/inspect-gramine.ts';

/** The areas of an enclave, one per line: what `diff` can compare between two builds. */
export function layoutTable(areas: ShownArea[]): string {
  const rows = [
    ['area', 'address', 'size', 'flags', 'digest', 'running'],
    ...areas.map(({ name, address, size, flags, digest, running }) => [
      ...[name, address, `0x${size.toString(16)}`, flags.replaceAll(' ', ','), digest, running],
    ]),
  ];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
