import { AtomaError } from '../core/errors.ts';

/** `missing`: it can be got, `mend` says how. `no`: this machine is not made for it. */
export type Status = 'ok' | 'missing' | 'no';

/** What was found of one thing that atoma-tee can use. No field ever holds a secret. */
export interface Finding {
  /** Stable: "kvm". */
  id: string;
  /** For people: "KVM". */
  name: string;
  status: Status;
  /** What there is, or what there is not, in a few words. */
  found: string;
  /** What it is good for. */
  for: string;
  /** How to get it: a command with Debian's package names, or a page of docs/. Only where it is not there. */
  mend?: string;
  /** True where build, seal, run --tee simulated and verify need it. */
  required: boolean;
}

/** What a probe finds out; `id`, `name`, `for` and `required` are known beforehand. */
export type Outcome = Pick<Finding, 'status' | 'found' | 'mend'>;

export interface Probe extends Pick<Finding, 'id' | 'name' | 'for'> {
  required?: boolean;
  look(): Outcome | Promise<Outcome>;
}

export const ok = (found: string): Outcome => ({ status: 'ok', found });
export const missing = (found: string, mend: string): Outcome => ({ status: 'missing', found, mend });
export const no = (found: string, mend?: string): Outcome => ({
  status: 'no',
  found,
  ...(mend === undefined ? {} : { mend }),
});

/** Scheme and host only: user names, passwords, paths and queries of URLs can be secrets. */
export const host = (url: string): string =>
  URL.canParse(url) ? `${new URL(url).protocol}//${new URL(url).host}` : 'an unreadable URL';

/** What an error of the house says is what was found; its hint is the mend. */
export const fromError = (error: unknown): Outcome => {
  const bare = (text: string) => text.replace(/[a-z][a-z0-9+.-]*:\/\/[^\s"']+/gi, host);
  const mend = error instanceof AtomaError ? error.hint : undefined;
  const { killed, message = String(error) } = error as { killed?: unknown; message?: string };
  return {
    status: 'missing',
    // Of a child process (execFile): "Command failed: ..." and all that it said.
    found: killed === true ? 'it is there, and does not answer' : bare(message.split('\n')[0] ?? ''),
    ...(mend === undefined ? {} : { mend: bare(mend) }),
  };
};

/** Runs a probe; one that fails has found that the thing is not usable. */
export async function look({ id, name, for: use, required = false, look }: Probe): Promise<Finding> {
  const outcome = await Promise.resolve().then(look).catch(fromError);
  return { id, name, ...outcome, for: use, required };
}
