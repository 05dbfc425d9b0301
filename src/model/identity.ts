/** What says that a file is still the one that was looked at, as git's index does: device, inode, size, both times in ns. */
export const fileIdentity = (stat: {
  dev: bigint;
  ino: bigint;
  size: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
}): string => [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(' ');

/** The later of its two times, in ns since 1970. */
export function lastChange(identity: string): bigint {
  const [mtime, ctime] = identity.split(' ').slice(3).map(BigInt);
  return mtime !== undefined && ctime !== undefined && ctime > mtime ? ctime : (mtime ?? 0n);
}
