import { entryName, type Lock, lockEntries } from '../../image/lock-file.ts';

/** An input whose version or content differs; without `from` it is new, without `to` it is gone. */
export interface LockChange {
  name: string;
  from?: string;
  to?: string;
}

/** One line of a lock, as people compare it. */
interface Line {
  name: string;
  version: string;
  /** Everything else: where only this differs, the version alone would show no change. */
  rest: string;
}

/** What differs between two locks, in the order of the new one. `old` null: everything is new. */
export function compareLocks(old: Lock | null, lock: Lock): LockChange[] {
  const [before, after] = [old ? describeLock(old) : [], describeLock(lock)];
  const changes: LockChange[] = [];
  for (const line of after) {
    const was = before.find(({ name }) => name === line.name);
    if (was === undefined) changes.push({ name: line.name, to: line.version });
    else if (was.version !== line.version) changes.push({ name: line.name, from: was.version, to: line.version });
    else if (was.rest !== line.rest) {
      changes.push({ name: line.name, from: was.version, to: `${line.version} (other content or rules)` });
    }
  }
  for (const { name, version } of before) {
    if (!after.some((line) => line.name === name)) changes.push({ name, from: version });
  }
  if (old !== null && changes.length === 0 && old.timestamp !== lock.timestamp) {
    changes.push({ name: 'timestamp', from: String(old.timestamp), to: String(lock.timestamp) });
  }
  return changes;
}

function describeLock(lock: Lock): Line[] {
  const { version, init, program } = lock.toolkit;
  const brief = (digest: string) => digest.replace(/^sha\d+:/, '').slice(0, 12);
  return [
    ...lockEntries(lock).map((entry) => ({ name: entry.name, version: entry.version, rest: JSON.stringify(entry) })),
    ...lock.file.map((file) => ({ name: file.path, version: brief(file.sha256), rest: JSON.stringify(file) })),
    ...lock.oci.map((image) => ({ name: image.reference, version: brief(image.digest), rest: JSON.stringify(image) })),
    ...(lock.kernel
      ? [
          {
            name: 'the small kernel',
            version: entryName({ name: lock.kernel.version, version: brief(lock.kernel.sha256) }),
            rest: JSON.stringify(lock.kernel),
          },
        ]
      : []),
    ...(lock.gramine
      ? [
          {
            name: 'Gramine',
            version: `${lock.gramine.version ?? 'unknown version'} (libpal ${brief(lock.gramine.libpal.sha256)}, libsysdb ${brief(lock.gramine.libsysdb.sha256)})`,
            rest: JSON.stringify(lock.gramine),
          },
        ]
      : []),
    {
      name: 'atoma-tee',
      version: `${version} (init ${brief(init)}, program ${brief(program)})`,
      rest: JSON.stringify(lock.toolkit),
    },
  ];
}
