import type { Measurement } from '../core/measurement.ts';

/** Register by register, for tables. */
export function measurementRows(measurement: Measurement): [string, string][] {
  if (measurement.tee === 'simulated') {
    return [['SIMULATED by', measurement.root], ...measurementRows(measurement.of)];
  }
  const { tee: _, ...registers } = measurement;
  return Object.entries(registers).map(([name, value]) => [name.toUpperCase(), String(value)]);
}
