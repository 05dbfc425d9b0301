import { AtomaError, usageError } from '../core/errors.ts';
import { MAX_MANIFEST } from '../oci/manifest.ts';
import { fetchDocument } from '../oci/registry-document.ts';
import { NetworkError } from '../oci/registry-http.ts';
import { putManifest } from '../oci/registry-upload.ts';
import type { Place } from './client.ts';
import { type Descriptor, INDEX_TYPE, parseReferrers } from './shape.ts';

// OCI distribution specification 1.1, "Listing Referrers" and "Unavailable Referrers API".

const MAX_PAGES = 16;

/** The tag under which a registry without the referrers API keeps the list; clients write it ("Referrers Tag Schema"). */
export const referrersTag = (digest: string): string => {
  const [algorithm = '', encoded = ''] = digest.split(':');
  return `${algorithm.slice(0, 32)}-${encoded.slice(0, 64)}`;
};

/** What refers to `digest` and says that it is of `artifactType`. Hostile: nothing of it is compared with anything yet. */
export async function listReferrers(place: Place, digest: string, artifactType: string): Promise<Descriptor[]> {
  const all = (await listByApi(place, digest, artifactType)) ?? (await listByTag(place, digest)).all;
  return all.filter((entry) => entry.artifactType === artifactType);
}

/** Null: the registry has no such API. */
async function listByApi(place: Place, digest: string, artifactType: string): Promise<Descriptor[] | null> {
  const all: Descriptor[] = [];
  let path: string | undefined = `referrers/${digest}?${new URLSearchParams({ artifactType })}`;
  for (let page = 0; path !== undefined; page++) {
    if (page === MAX_PAGES)
      throw usageError(
        'ERR_OCI_TOO_LARGE',
        `the list of what refers to ${place.what} has more than ${MAX_PAGES} pages`,
      );
    const got = await fetchIndex(place, path);
    if (got === null) return page === 0 ? null : all;
    all.push(...parseReferrers(got.bytes, `the list of what refers to ${place.what}`));
    path = nextPage(got.headers.link, digest);
  }
  return all;
}

/** RFC 8288. Only the query counts: the next page is at the same place. */
function nextPage(link: string | string[] | undefined, digest: string): string | undefined {
  const [, target] = /<([^>]*)>\s*;[^,]*\brel="?next\b/i.exec(String(link ?? '')) ?? [];
  if (target === undefined || !URL.canParse(target, 'http://x/')) return undefined;
  return `referrers/${digest}${new URL(target, 'http://x/').search}`;
}

async function listByTag(place: Place, digest: string) {
  const got = await fetchIndex(place, `manifests/${referrersTag(digest)}`);
  if (got === null) return { all: [], document: {} };
  const all = parseReferrers(got.bytes, `the list of what refers to ${place.what}`);
  return { all, document: JSON.parse(got.bytes.toString('utf8')) as { manifests?: object[] } };
}

async function fetchIndex({ client, limits, signal, what }: Place, path: string) {
  const absent = () => usageError('ERR_OCI_NOT_FOUND', `the registry has no ${path} of ${what}`);
  const job = { client, limits, signal, path, accept: INDEX_TYPE, pin: {}, limit: MAX_MANIFEST };
  try {
    const got = await fetchDocument({ ...job, what: `${path.slice(0, 90)} of ${what}`, absent });
    // A web page that answers everything is no list.
    return got.mediaType === INDEX_TYPE ? got : null;
  } catch (error) {
    if (error instanceof AtomaError && error.code === 'ERR_OCI_NOT_FOUND') return null;
    throw error;
  }
}

/**
 * Stores a manifest with a subject, and where the registry does not list it by itself, adds it to the list that clients keep under a
 * tag. Two who do that at the same moment can lose one of the two entries: the specification has no remedy; push again.
 * Throws as putManifest.
 */
export async function putReferrer(
  place: Place,
  subject: string,
  { bytes, descriptor }: { bytes: Buffer; descriptor: Descriptor & { artifactType: string } },
): Promise<void> {
  const { client, signal } = place;
  const { digest, mediaType } = descriptor;
  if ((await putManifest(client, { name: digest, bytes, mediaType, signal })).subject) return;
  const { all, document } = await listByTag(place, subject);
  if (all.some((entry) => entry.digest === digest)) return;
  const manifests = [...(document.manifests ?? []), descriptor];
  const list = Buffer.from(JSON.stringify({ ...document, schemaVersion: 2, mediaType: INDEX_TYPE, manifests }));
  if (list.length > MAX_MANIFEST) throw client.failure(new NetworkError('its list of referrers is full', true));
  await putManifest(client, { name: referrersTag(subject), bytes: list, mediaType: INDEX_TYPE, signal });
}
