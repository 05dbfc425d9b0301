// Before anything that colours is loaded: the flag wins over the environment and the terminal.
if (process.argv.includes('--no-color')) {
  delete process.env.FORCE_COLOR;
  process.env.NO_COLOR = '1';
}
const { main } = await import('../dist/cli/main.js');

await main(process.argv.slice(2), import.meta.url);
