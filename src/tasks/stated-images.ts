import { isDeepStrictEqual } from 'node:util';
import { AtomaError, negativeError, usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { readBuildPublicKey } from '../keys/ec.ts';
import { bundlePath, MAX_BUNDLE, parseBundle } from '../manifest/bundle.ts';
import { IN_TOTO_TYPE, verifyEnvelope } from '../manifest/dsse.ts';
import { parseStatement, type Statement } from '../manifest/statement.ts';
import { type AbsentImage, gramineFiles, isGramine, loadImages, type MeasuredImage } from './image.ts';
import { type ManifestFacts, statedFacts } from './verify/build-manifest.ts';

/** Why a manifest is believed about images that are not beside it. */
export interface ManifestTrust {
  /** Path of the public key that must have signed it. */
  key?: string | undefined;
  /** It is believed as it is. */
  trusted?: boolean | undefined;
}

/**
 * The images of a manifest, for a release policy: measured anew where they lie beside it; where they do not, and `trust` says why, as the
 * manifest says (its measurements.json has to be there). `stated` are the paths of the latter. A key is insisted upon, also where it was not needed.
 *
 * Throws `ERR_MANIFEST_SIGNATURE` (exit 3), `ERR_KEY_*`, and as loadImages.
 */
export async function loadOrBelieve(
  manifest: string,
  trust: ManifestTrust,
  onProgress?: OnProgress,
): Promise<{ images: MeasuredImage[]; stated: string[] }> {
  const believed = trust.key !== undefined || trust.trusted === true;
  const stated: string[] = [];
  let facts: ManifestFacts | undefined;
  const absent: AbsentImage = async (statement, subject, path) => {
    facts ??= await statedFacts(manifest, statement);
    stated.push(path);
    return statedImage(facts, subject, path);
  };
  try {
    const { statement, images } = await loadImages(manifest, onProgress, believed ? absent : undefined);
    if (trust.key !== undefined) await requireSignature(manifest, statement, trust.key);
    return { images, stated };
  } catch (error) {
    if (believed || !(error instanceof AtomaError) || error.code !== 'ERR_FILE_NOT_FOUND') throw error;
    throw usageError('ERR_FILE_NOT_FOUND', error.message, {
      cause: error,
      hint: 'images are measured beside their manifest; --manifest-key BUILD.pub believes a signed manifest without them',
    });
  }
}

function statedImage(facts: ManifestFacts, subject: Statement['subject'][number], path: string): MeasuredImage {
  const { modelDigest: digest, owner, project } = facts;
  const config = { project, model: { digest, owner } };
  const gramine = isGramine(subject);
  const measurement = facts.measurements.find(({ tee }) => tee === (gramine ? 'sgx' : 'nitro'));
  if (measurement?.tee === 'nitro') return { target: 'nitro', path, measurement, config };
  if (measurement?.tee === 'sgx') {
    const { debug = false } = facts.statement.predicate.buildDefinition.internalParameters.gramine ?? {};
    return { target: 'gramine', path, ...gramineFiles(path), measurement, config, debug };
  }
  throw negativeError('ERR_MANIFEST_MEASUREMENTS', `the manifest's measurements do not hold ${subject.name}`);
}

/** Throws `ERR_MANIFEST_SIGNATURE` (exit 3) unless `key` signed this manifest. */
async function requireSignature(manifest: string, statement: Statement, key: string): Promise<void> {
  const signer = readBuildPublicKey(await readSmallFile(key, 'build public key'), 'build public key');
  const path = bundlePath(manifest);
  const what = 'signature of the build manifest';
  const { method, envelope } = parseBundle(await readSmallFile(path, what, MAX_BUNDLE), what);
  const refused = (why: string) => negativeError('ERR_MANIFEST_SIGNATURE', `${path}: ${why}`);
  if (method !== 'key' || envelope.payloadType !== IN_TOTO_TYPE || !verifyEnvelope(envelope, signer)) {
    throw refused('expected a signature by the key of --manifest-key, found another');
  }
  if (!isDeepStrictEqual(parseStatement(envelope.payload), statement)) {
    throw refused(`what was signed is not ${manifest}`);
  }
}
