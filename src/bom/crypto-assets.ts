/** Where an algorithm runs: in the image's own program, or in what vouches for it (the hypervisor, the processor). */
type Place = 'software-tee' | 'hardware' | 'other';

export interface CryptoAsset {
  name: string;
  /** What it is used for here. */
  use: string;
  target?: 'nitro' | 'gramine';
  place: Place;
  primitive: string;
  parameters?: string;
  curve?: string;
  mode?: string;
  padding?: string;
  functions: string[];
  /** Bits. */
  classical: number;
  /** NIST's category, 0 for what a quantum computer breaks. */
  quantum: number;
  oid?: string;
}

const own = { place: 'software-tee' } as const;

/**
 * The cryptography of an image: what the enclave program uses (docs/seal.md, docs/receipts.md), and what signs its evidence outside of it.
 * Object identifiers: NIST CSOR (2.16.840.1.101.3.4), RFC 8410, RFC 8619, RFC 5758, RFC 8017, and X-Wing's draft.
 */
export const CRYPTO_ASSETS: CryptoAsset[] = [
  {
    ...{ ...own, name: 'AES-256-GCM', use: 'segments of the sealed model (FLOE); HPKE of key release and requests' },
    ...{ primitive: 'ae', parameters: '256', mode: 'gcm', functions: ['encrypt', 'decrypt', 'tag'] },
    ...{ classical: 256, quantum: 5, oid: '2.16.840.1.101.3.4.1.46' },
  },
  {
    ...{ ...own, name: 'X-Wing', use: 'KEM of HPKE (0x647A): to brokers, to the enclave, of requests' },
    ...{
      primitive: 'combiner',
      parameters: 'ML-KEM-768 and X25519',
      functions: ['keygen', 'encapsulate', 'decapsulate'],
    },
    ...{ classical: 128, quantum: 3, oid: '1.3.6.1.4.1.62253.25722' },
  },
  {
    ...{ ...own, name: 'ML-KEM-768', use: 'post-quantum half of X-Wing' },
    ...{ primitive: 'kem', parameters: '768', functions: ['keygen', 'encapsulate', 'decapsulate'] },
    ...{ classical: 192, quantum: 3, oid: '2.16.840.1.101.3.4.4.2' },
  },
  {
    ...{ ...own, name: 'X25519', use: 'classical half of X-Wing' },
    ...{ primitive: 'key-agree', curve: 'Curve25519', functions: ['keygen', 'keyderive'] },
    ...{ classical: 128, quantum: 0, oid: '1.3.101.110' },
  },
  {
    ...{ ...own, name: 'Ed25519', use: "verifies the owner's signature of a sealed model; signs receipts" },
    ...{ primitive: 'signature', curve: 'Ed25519', functions: ['keygen', 'sign', 'verify'] },
    ...{ classical: 128, quantum: 0, oid: '1.3.101.112' },
  },
  {
    ...{ ...own, name: 'HKDF-SHA-256', use: 'key schedule of HPKE' },
    ...{ primitive: 'kdf', parameters: '256', functions: ['keyderive'] },
    ...{ classical: 256, quantum: 2, oid: '1.2.840.113549.1.9.16.3.28' },
  },
  {
    ...{ ...own, name: 'HKDF-SHA-384', use: 'message and segment keys of FLOE' },
    ...{ primitive: 'kdf', parameters: '384', functions: ['keyderive'] },
    ...{ classical: 384, quantum: 4, oid: '1.2.840.113549.1.9.16.3.29' },
  },
  {
    ...{ ...own, name: 'HKDF-SHA-512', use: 'keys of a sealed model, from its content key' },
    ...{ primitive: 'kdf', parameters: '512', functions: ['keyderive'] },
    ...{ classical: 512, quantum: 5, oid: '1.2.840.113549.1.9.16.3.30' },
  },
  {
    ...{ ...own, name: 'SHA-256', use: 'digests of model files, of requests and responses, of headers and keys' },
    ...{ primitive: 'hash', parameters: '256', functions: ['digest'] },
    ...{ classical: 128, quantum: 2, oid: '2.16.840.1.101.3.4.2.1' },
  },
  {
    ...{ ...own, name: 'SHA-384', use: 'registers of the Nitro measurement (PCRs)' },
    ...{ target: 'nitro', primitive: 'hash', parameters: '384', functions: ['digest'] },
    ...{ classical: 192, quantum: 4, oid: '2.16.840.1.101.3.4.2.2' },
  },
  {
    ...{ ...own, name: 'SHA-512', use: 'binds a released key to its enclave' },
    ...{ primitive: 'hash', parameters: '512', functions: ['digest'] },
    ...{ classical: 256, quantum: 5, oid: '2.16.840.1.101.3.4.2.3' },
  },
  {
    ...{ ...own, name: 'SHA3-256', use: 'combiner of X-Wing' },
    ...{ primitive: 'hash', parameters: '256', functions: ['digest'] },
    ...{ classical: 128, quantum: 2, oid: '2.16.840.1.101.3.4.2.8' },
  },
  {
    ...{ ...own, name: 'SHAKE256', use: 'expands the seed of an X-Wing key' },
    ...{ primitive: 'xof', parameters: '256', functions: ['digest'] },
    ...{ classical: 256, quantum: 5, oid: '2.16.840.1.101.3.4.2.12' },
  },
  {
    ...{
      place: 'other',
      name: 'ECDSA-P-384-SHA-384',
      use: "signs Nitro's attestation documents, outside of the image",
    },
    ...{ target: 'nitro', primitive: 'signature', curve: 'P-384', functions: ['sign'] },
    ...{ classical: 192, quantum: 0, oid: '1.2.840.10045.4.3.3' },
  },
  {
    ...{ place: 'other', name: 'ECDSA-P-256-SHA-256', use: "signs SGX quotes, in Intel's quoting enclave" },
    ...{ target: 'gramine', primitive: 'signature', curve: 'P-256', functions: ['sign'] },
    ...{ classical: 128, quantum: 0, oid: '1.2.840.10045.4.3.2' },
  },
  {
    ...{
      place: 'hardware',
      name: 'RSA-3072-PKCS1-SHA-256',
      use: 'signature of the SGX enclave (SIGSTRUCT), verified by the processor',
    },
    ...{ target: 'gramine', primitive: 'signature', parameters: '3072', padding: 'pkcs1v15', functions: ['verify'] },
    ...{ classical: 128, quantum: 0, oid: '1.2.840.113549.1.1.11' },
  },
];

/** cryptoProperties of CycloneDX 1.6. */
export const cryptoProperties = (asset: CryptoAsset) => ({
  assetType: 'algorithm',
  algorithmProperties: {
    primitive: asset.primitive,
    ...(asset.parameters === undefined ? {} : { parameterSetIdentifier: asset.parameters }),
    ...(asset.curve === undefined ? {} : { curve: asset.curve }),
    executionEnvironment: asset.place,
    implementationPlatform: asset.place === 'other' ? 'unknown' : 'x86_64',
    ...(asset.mode === undefined ? {} : { mode: asset.mode }),
    ...(asset.padding === undefined ? {} : { padding: asset.padding }),
    cryptoFunctions: asset.functions,
    classicalSecurityLevel: asset.classical,
    nistQuantumSecurityLevel: asset.quantum,
  },
  ...(asset.oid === undefined ? {} : { oid: asset.oid }),
});
