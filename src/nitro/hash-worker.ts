import { parentPort, workerData } from 'node:worker_threads';
import { type DigestTask, EifDigester, type EifDigests } from './digests.ts';
import type { EifSectionType } from './layout.ts';

/** What lanes.ts sends to this thread, and what it answers. */
export interface LaneData {
  memory: SharedArrayBuffer;
  slotBytes: number;
  types: EifSectionType[];
  tasks: DigestTask[];
}
export type LaneRequest = { slot: number; length: number; section: number } | 'finish';
export type LaneReply = { slot: number } | { digests: Partial<EifDigests> };

const port = parentPort;
if (port) {
  const { memory, slotBytes, types, tasks } = workerData as LaneData;
  const digester = new EifDigester(types, tasks);
  const reply = (message: LaneReply) => port.postMessage(message);
  port.on('message', (request: LaneRequest) => {
    if (request === 'finish') {
      reply({ digests: digester.finish() });
      return;
    }
    digester.update(new Uint8Array(memory, request.slot * slotBytes, request.length), request.section);
    reply({ slot: request.slot });
  });
}
