/** A line on the console, which belongs to the host: nothing private. Launchers parse these lines. */
export const say = (line: string): void => console.log(`atoma-tee: ${line}`);
