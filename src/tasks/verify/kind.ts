import { detectKind } from '../../attest/index.ts';
import { usageError } from '../../core/errors.ts';
import { readHead } from '../../core/read-head.ts';
import { isSigstruct } from '../../gramine/index.ts';
import type { Kind } from './report.ts';

const HEAD = 1 << 18;
/** Tables that manifests of Gramine have, and no other TOML of ours. */
const MANIFEST = /^(\[{1,2}(sgx|loader|libos|fs|sys)[\].]|(sgx|loader|libos|fs|sys)\.)/m;

/** What a file looks like. It chooses a parser and proves nothing. Throws `ERR_KIND_UNKNOWN` (exit 2). */
export async function fileKind(path: string): Promise<Kind> {
  const head = await readHead(path, HEAD);
  if (head.subarray(0, 4).toString('latin1') === '.eif') return 'eif';
  if (head.subarray(0, 6).toString('latin1') === 'ATSEAL') return 'sealed-model';
  if (/^\s*\{/.test(head.toString('latin1', 0, 64)) && head.includes('"https://in-toto.io/Statement/v1"'))
    return 'build-manifest';
  if (/^\s*\{/.test(head.toString('latin1', 0, 64)) && head.includes('"application/vnd.dev.sigstore.bundle'))
    return bundleKind(head);
  if (isSigstruct(head, head.length)) return 'sigstruct';
  const kind = detectKind(head);
  if (kind === 'receipt') return 'receipt';
  if (kind !== null) return 'evidence';
  if (MANIFEST.test(head.toString('latin1')) && !head.includes(0)) return 'gramine-manifest';
  throw usageError('ERR_KIND_UNKNOWN', `${path} is nothing that this toolkit knows`, {
    hint: 'expected an EIF, a signed Gramine manifest (NAME.manifest.sgx) or its NAME.sig, a sealed model, a build manifest (build.intoto.json), the signature of one or of a model, evidence or a receipt; --kind insists on one',
  });
}

/** Both are in-toto statements, in base64; a model's names its own type of predicate near its beginning. */
function bundleKind(head: Buffer): Kind {
  const [, payload = ''] = /"payload"\s*:\s*"([A-Za-z0-9+/]*)/.exec(head.toString('latin1')) ?? [];
  return Buffer.from(payload, 'base64').includes('https://model_signing/') ? 'model-signature' : 'manifest-signature';
}
