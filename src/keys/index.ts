export { type GeneratedKey, generateKey, KEY_TYPES, type KeyFiles, type KeyType, writeKeyFiles } from './generate.ts';
export { keyId, readOwnerPrivateKey, readOwnerPublicKey, readXWingPrivateKey, readXWingPublicKey } from './keys.ts';
