/** Runs inside a guest: named checks, one line each on the console, where the test reads them. */
export async function check(name: string, run: () => unknown): Promise<void> {
  try {
    await run();
    console.log(`guest: PASS ${name}`);
  } catch (error) {
    const why =
      error instanceof Error ? `${error.message} ${error.stack?.split('\n')[1]?.trim() ?? ''}` : String(error);
    console.log(`guest: FAIL ${name} ${why.replaceAll('\n', ' ')}`);
  }
}

export function equal(found: unknown, expected: unknown): void {
  const [a, b] = [found, expected].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`expected ${b}, found ${a}`);
}

export async function throws(run: () => unknown, message: RegExp): Promise<void> {
  let said = 'nothing';
  try {
    await run();
  } catch (error) {
    said = error instanceof Error ? error.message : String(error);
  }
  if (!message.test(said)) throw new Error(`expected an error like ${message}, found: ${said}`);
}
