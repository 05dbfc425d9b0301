/** One archive of the host's apt configuration. */
export interface AptSource {
  uri: string;
  suites: string[];
  components: string[];
  signedBy?: string;
}

/**
 * Parses one-line-style sources (sources.list(5)): `deb [option=value ...] URI SUITE COMPONENT...`. Lines that are
 * something else are passed over: the file is apt's, and apt is who complains about it.
 */
export function parseOneLine(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (!match?.[2] || !match[3]) continue;
    const signedBy = /(?:^|\s)signed-by=(\S+)/i.exec(match[1] ?? '')?.[1];
    sources.push({
      uri: match[2],
      suites: [match[3]],
      components: words(match[4] ?? ''),
      ...(signedBy ? { signedBy } : {}),
    });
  }
  return sources;
}

/** Parses deb822-style sources (*.sources, sources.list(5)). */
export function parseDeb822(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const fields of parseStanzas(text)) {
    const field = (name: string) => words(fields.get(name) ?? '');
    if (!field('types').includes('deb') || fields.get('enabled')?.trim().toLowerCase() === 'no') continue;
    const signedBy = fields.get('signed-by')?.trim();
    for (const uri of field('uris')) {
      sources.push({
        uri,
        suites: field('suites'),
        components: field('components'),
        ...(signedBy ? { signedBy } : {}),
      });
    }
  }
  return sources;
}

/** Paragraphs of deb822 fields (deb822(5)): names in lower case, continuation lines joined, comment lines dropped. */
export function* parseStanzas(text: string): Generator<Map<string, string>> {
  for (const block of text.split(/\n(?:[ \t]*\n)+/)) {
    const fields = new Map<string, string>();
    let current: string | null = null;
    for (const line of block.split('\n')) {
      if (line.startsWith('#')) continue;
      const colon = line.indexOf(':');
      if (/^[ \t]/.test(line) && current !== null)
        fields.set(current, `${fields.get(current) ?? ''}\n${line.trim()}`.trim());
      else if (colon > 0) {
        current = line.slice(0, colon).toLowerCase();
        fields.set(current, line.slice(colon + 1).trim());
      }
    }
    if (fields.size > 0) yield fields;
  }
}

const NAMES =
  'stable|oldstable|oldoldstable|testing|unstable|sid|buster|bullseye|bookworm|trixie|forky|duke|experimental';
const DEBIAN = new RegExp(`^(?:${NAMES})(?:-updates|-backports|-proposed-updates)?/?$`);

const SECURITY = new RegExp(`^(?:${NAMES})-security/?$`);

/** Debian's main archive, or the one of its security updates: two pools, on different servers. */
export type DebianArchive = 'main' | 'security';

/**
 * The mirrors of one of Debian's archives among apt's sources, in their order, without a "/" at the end. Other archives
 * (other distributions, vendors) have other pools, so they are told apart by the suites that they carry.
 */
export function debianMirrors(sources: AptSource[], archive: DebianArchive = 'main'): string[] {
  const suites = archive === 'main' ? DEBIAN : SECURITY;
  const mirrors = sources
    .filter((s) => /^https?:\/\//.test(s.uri) && s.components.includes('main'))
    .filter((s) => s.suites.some((suite) => suites.test(suite)))
    .map((s) => s.uri.replace(/\/+$/, ''));
  return [...new Set(mirrors)];
}

const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '');
