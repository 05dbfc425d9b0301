export { compareModel, type ModelComparison } from './compare.ts';
export { type SignedModel, signModelFiles } from './sign.ts';
export { type ModelStatement, PREDICATE_TYPE, parseModelStatement } from './statement.ts';
