import { DerError, type DerItem, DerReader, readBoolean, readOid, readUnsigned, TAG } from './der.ts';

/** Intel's SGX extensions of a PCK certificate ("Intel SGX PCK Certificate and CRL Profile Specification", section 1.3.5). */
export const SGX_EXTENSION = '1.2.840.113741.1.13.1';

const COMPONENTS = 16;

/** The platform that a PCK certificate speaks for. All byte strings are lower-case hex. */
export interface PckPlatform {
  /** 16 bytes: which processor package (or platform) it is. */
  ppid: string;
  /** 6 bytes: family, model, stepping, platform type and custom SKU: chooses the TCB info. */
  fmspc: string;
  /** 2 bytes. */
  pceId: string;
  /** The TCB that the PCK key was derived for: 16 component SVNs, and the PCE's. */
  components: number[];
  pceSvn: number;
  /** 16 bytes. */
  cpuSvn: string;
  sgxType: 'standard' | 'scalable' | 'scalable with integrity' | 'unknown';
  /** Platform CA only: 16 bytes that name the platform instance, and how it is configured. */
  instance?: string;
  dynamicPlatform?: boolean;
  cachedKeys?: boolean;
  smtEnabled?: boolean;
}

const SGX_TYPES = ['standard', 'scalable', 'scalable with integrity'] as const;

/** Reads the value of the SGX extension. Throws `DerError`. What Intel may add beside the known items is passed over. */
export function readPckPlatform(value: Uint8Array): PckPlatform {
  const items = readItems(new DerReader(Buffer.from(value)), SGX_EXTENSION);
  const tcb = readItems(new DerReader(required(items, '2', TAG.sequence).raw), `${SGX_EXTENSION}.2`);
  const components = Array.from({ length: COMPONENTS }, (_, index) =>
    readUnsigned(required(tcb, String(index + 1), TAG.integer), 0xff),
  );
  const type = readUnsigned(required(items, '5', TAG.enumerated), 0xff);
  return {
    ppid: octets(items, '1', 16),
    fmspc: octets(items, '4', 6),
    pceId: octets(items, '3', 2),
    components,
    pceSvn: readUnsigned(required(tcb, '17', TAG.integer), 0xffff),
    cpuSvn: octets(tcb, '18', 16),
    sgxType: SGX_TYPES[type] ?? 'unknown',
    ...(items.has('6') ? { instance: octets(items, '6', 16) } : {}),
    ...(items.has('7') ? readConfiguration(required(items, '7', TAG.sequence)) : {}),
  };
}

function readConfiguration(item: DerItem): Partial<PckPlatform> {
  const found = readItems(new DerReader(item.raw), `${SGX_EXTENSION}.7`);
  const flag = (name: string, arc: string) =>
    found.has(arc) ? { [name]: readBoolean(required(found, arc, TAG.boolean)) } : {};
  return { ...flag('dynamicPlatform', '1'), ...flag('cachedKeys', '2'), ...flag('smtEnabled', '3') };
}

/** SEQUENCE OF SEQUENCE { OBJECT IDENTIFIER, value }, by the last arc of the identifiers that lie under `prefix`. */
function readItems(reader: DerReader, prefix: string): Map<string, DerItem> {
  const items = new Map<string, DerItem>();
  const list = reader.enter(TAG.sequence);
  reader.end();
  while (!list.done) {
    const pair = list.enter(TAG.sequence);
    const id = readOid(pair.next(TAG.oid));
    const value = pair.any();
    pair.end();
    if (!id.startsWith(`${prefix}.`)) throw new DerError(`${id} is not under ${prefix}`);
    const arc = id.slice(prefix.length + 1);
    if (items.has(arc)) throw new DerError(`${id} appears twice`);
    items.set(arc, value);
  }
  return items;
}

function required(items: Map<string, DerItem>, arc: string, tag: number): DerItem {
  const item = items.get(arc);
  if (item === undefined) throw new DerError(`SGX extension .${arc} is missing`);
  if (item.tag !== tag) throw new DerError(`SGX extension .${arc} is of another type`);
  return item;
}

function octets(items: Map<string, DerItem>, arc: string, length: number): string {
  const { content } = required(items, arc, TAG.octetString);
  if (content.length !== length) throw new DerError(`SGX extension .${arc}: expected ${length} bytes`);
  return content.toString('hex');
}
