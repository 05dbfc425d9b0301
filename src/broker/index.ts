/** Key release: protocol, broker, HTTP server, and the client that runs inside the enclave. */
export { type AuditEntry, AuditLog, findBrokenLink } from './audit.ts';
export { AuditFile } from './audit-file.ts';
export { Broker, type BrokerOptions } from './broker.ts';
export type { Post } from './client.ts';
export { type BrokerResponse, handleBrokerRequest } from './handler.ts';
export { decodeEpochs, releaseBinder } from './protocol.ts';
export { type BrokerFailure, type ReleaseOptions, requestRelease } from './release.ts';
export { type BrokerServer, type ServeOptions, serveBroker } from './server.ts';
export { openSqliteState, type SqliteState } from './sqlite-state.ts';
export { type BrokerState, MemoryState } from './state.ts';
