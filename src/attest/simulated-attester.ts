import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { fromHex, hex, sha384 } from '../core/bytes.ts';
import { ALG, signSign1 } from '../core/cose.ts';
import { usageError } from '../core/errors.ts';
import type { NitroMeasurement } from '../core/measurement.ts';
import { encodeDocument, type MeasuredEnclave } from './document.ts';
import { ROOT_NAME, type SimulatedRoot } from './simulated-root.ts';

/** The COSE content type that marks simulated evidence; a Nitro document has none. */
export const SIMULATED_CONTENT_TYPE = 'application/vnd.atoma.simulated+cbor';
/** The register that is extended once the model is open, so that nothing can ask for the key again. */
export const RELEASE_PCR = 16;

const MINUTE = 60_000;
const LEAF_LIFETIME = 180 * MINUTE;
const REGISTER_COUNT = 16;
/** Limits of the NSM's Attestation request (aws-nitro-enclaves-nsm-api). */
const MOST = { userData: 512, nonce: 512, publicKey: 1024 };

/** What evidence is to bind: three fields where it is Nitro-shaped, else the one that there is. */
export interface AttestRequest {
  userData?: Uint8Array;
  nonce?: Uint8Array;
  publicKey?: Uint8Array;
  /** 64 bytes that stand for all of the above: the report data of SGX. */
  reportData?: Uint8Array;
}

/** Makes evidence. One per TEE; this is what the enclave program is given. */
export interface Attester {
  attest(request: AttestRequest): Promise<Uint8Array>;
}

export interface SimulatedAttester extends Attester {
  /** Extends and locks PCR16, as the Nitro agent does: a broker then refuses further releases to this launch. */
  lockRelease(): void;
}

/**
 * The stand-in for the NSM of one launched image: signs Nitro-shaped documents (untagged COSE_Sign1, ES384, deterministic
 * CBOR) that say `measured`, under a leaf of `root` that is valid for three hours and renewed when it runs out. Of an SGX
 * enclave the registers are zero, and what it measured is a field that Nitro documents do not have.
 * Throws `ERR_ATTEST_REQUEST` (exit 2) where a field is longer than the NSM takes.
 */
export function createSimulatedAttester(
  root: SimulatedRoot,
  measured: NitroMeasurement | MeasuredEnclave,
  clock: () => Date = () => new Date(),
): SimulatedAttester {
  const moduleId = `simulated-${hex(randomBytes(8))}`;
  const pcrs = registers(measured.tee === 'nitro' ? measured : {});
  // Begun now and awaited later: the certificate library loads while the image boots.
  let leaf = issueLeaf(root, moduleId, clock());
  leaf.catch(() => {});
  return {
    async attest(request) {
      for (const [field, most] of Object.entries(MOST)) {
        const length = request[field as keyof AttestRequest]?.length ?? 0;
        if (length > most)
          throw usageError('ERR_ATTEST_REQUEST', `${field}: expected at most ${most} bytes, found ${length}`);
      }
      const now = clock();
      if (now.getTime() > (await leaf).renewAt) leaf = issueLeaf(root, moduleId, now);
      const { certificate, key } = await leaf;
      const document = encodeDocument({
        moduleId,
        timestamp: now.getTime(),
        pcrs,
        certificate,
        cabundle: [root.certificate],
        publicKey: request.publicKey ?? null,
        userData: request.userData ?? null,
        nonce: request.nonce ?? null,
        ...(measured.tee === 'sgx' ? { sgx: measured } : {}),
      });
      const header = new Map<number, unknown>([
        [1, ALG.ES384],
        [3, SIMULATED_CONTENT_TYPE],
      ]);
      return signSign1(header, document, key, false);
    },
    lockRelease() {
      const before = pcrs.get(RELEASE_PCR) ?? Buffer.alloc(48);
      pcrs.set(RELEASE_PCR, sha384(before, Buffer.from('atoma-tee/released')));
    },
  };
}

function registers(measured: Partial<NitroMeasurement>): Map<number, Uint8Array> {
  const pcrs = new Map<number, Uint8Array>();
  for (let index = 0; index < REGISTER_COUNT; index++) pcrs.set(index, Buffer.alloc(48));
  const known = { 0: measured.pcr0, 1: measured.pcr1, 2: measured.pcr2, 8: measured.pcr8 };
  for (const [index, value] of Object.entries(known)) {
    if (value === undefined) continue;
    const bytes = fromHex(value);
    if (bytes?.length !== 48) throw new TypeError(`PCR${index} is not 48 bytes of hex`);
    pcrs.set(Number(index), bytes);
  }
  return pcrs;
}

interface Leaf {
  certificate: Buffer;
  key: KeyObject;
  /** Milliseconds since 1970. */
  renewAt: number;
}

async function issueLeaf(root: SimulatedRoot, moduleId: string, now: Date): Promise<Leaf> {
  const { makeCertificate } = await import('./simulated-certificate.ts');
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  // It starts a little before, as the NSM's do: clocks differ.
  const begin = now.getTime() - 5 * MINUTE;
  const certificate = await makeCertificate(
    {
      subject: moduleId,
      issuer: ROOT_NAME,
      publicKey: createPublicKey(privateKey),
      notBefore: new Date(begin),
      notAfter: new Date(begin + LEAF_LIFETIME),
      ca: false,
      simulated: true,
    },
    root.key,
  );
  return { certificate, key: privateKey, renewAt: begin + LEAF_LIFETIME - 10 * MINUTE };
}
