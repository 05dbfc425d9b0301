/** Key release: protocol, broker, HTTP server, and the client that runs inside the enclave. */
export { type AuditEntry, AuditLog, findBrokenLink } from './audit.ts';
export { Broker, type BrokerOptions } from './broker.ts';
export type { Post } from './client.ts';
export { type BrokerResponse, handleBrokerRequest } from './handler.ts';
export { releaseBinder } from './protocol.ts';
export { type BrokerFailure, type ReleaseOptions, requestRelease } from './release.ts';
export { type BrokerServer, type ServeOptions, serveBroker } from './server.ts';
export { type BrokerState, MemoryState } from './state.ts';
