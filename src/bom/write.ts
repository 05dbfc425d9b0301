import * as Enums from '@cyclonedx/cyclonedx-library/Enums';
import * as Models from '@cyclonedx/cyclonedx-library/Models';
import * as Serialize from '@cyclonedx/cyclonedx-library/Serialize';
import * as Spec from '@cyclonedx/cyclonedx-library/Spec';
import { hex, sha256 } from '../core/bytes.ts';
import { CRYPTO_ASSETS, cryptoProperties } from './crypto-assets.ts';
import type { BomFacts } from './facts.ts';
import { modelCard, modelComponent } from './model-card.ts';
import {
  type Component,
  component,
  containerComponent,
  fileComponents,
  foundComponents,
  gramineParts,
  order,
  packageComponent,
  smallKernel,
  toolkitParts,
} from './parts.ts';

const { ComponentType: TYPE } = Enums;
const { Normalize } = Serialize.JSON;

/**
 * bom.cdx.json: CycloneDX 1.6, which more tools read than 1.7. The same facts give the same bytes: no clock, no random serial number
 * (it follows from the content), nothing sorted by a locale.
 */
export function writeBom(facts: BomFacts): Buffer {
  const { project, timestamp, toolkit, images, model } = facts;
  const extras = new Map<Component, object>();
  const { command, ...shared } = contents(facts);
  const modelPart = modelComponent(model);
  if (model.disclosed?.onnx) extras.set(modelPart, { modelCard: modelCard(model.disclosed.onnx) });
  const targets = images.map(({ target }) => target);
  const assets = CRYPTO_ASSETS.filter(({ target }) => target === undefined || targets.includes(target)).map((asset) => {
    const { name, use, place, target } = asset;
    const made = component(TYPE.CryptographicAsset, name, { ref: `crypto:${name}`, description: use });
    extras.set(made, { cryptoProperties: cryptoProperties(asset) });
    return { made, place, target };
  });
  const algorithms = assets.map(({ made }) => made);

  const imageParts = images.map((image) => imageComponent(image));
  const subject = component(TYPE.Application, project.name, {
    ...{ version: project.version, ref: 'project', components: [...imageParts, ...command] },
  });
  const top = [...shared.both, ...shared.nitro, ...shared.gramine, modelPart, ...algorithms].sort((a, b) =>
    order(ref(a), ref(b)),
  );
  depend(subject, [...imageParts, modelPart]);
  for (const [i, image] of imageParts.entries()) {
    const vouching = assets.filter(({ place, target }) => place !== 'software-tee' && target === targets[i]);
    const own = targets[i] === 'nitro' ? shared.nitro : shared.gramine;
    depend(image, [...shared.both, ...own, ...command, ...vouching.map(({ made }) => made)]);
  }
  const inside = assets.filter(({ place }) => place === 'software-tee');
  depend(shared.program, [...shared.program.components, ...inside.map(({ made }) => made)]);
  for (const container of shared.both) if (container !== shared.program) depend(container, container.components);

  const bom = new Models.Bom({
    metadata: new Models.Metadata({
      timestamp: new Date(timestamp * 1000),
      lifecycles: new Models.LifecycleRepository([Enums.LifecyclePhase.Build]),
      tools: new Models.Tools({
        components: new Models.ComponentRepository([
          new Models.Component(TYPE.Application, 'atoma-tee', { version: toolkit.version }),
        ]),
      }),
      component: subject,
    }),
    components: new Models.ComponentRepository(top),
  });
  const serializer = new Serialize.JsonSerializer(new Factory(extras));
  bom.serialNumber = serialNumber(serializer.serialize(bom));
  return Buffer.from(`${serializer.serialize(bom, { space: 2 })}\n`);
}

/** What the images hold: both of them, only the Nitro image, only the Gramine image; what a command's own file system has. */
function contents(facts: BomFacts) {
  const { packages, files, oci, found, kernel, gramine, toolkit, images } = facts;
  const nitroOnly = ({ keep }: BomFacts['packages'][number]) => keep.every(({ part }) => part !== 'root');
  const [program, ...init] = toolkitParts(
    toolkit,
    images.some(({ target }) => target === 'nitro'),
  ) as [Component, ...Component[]];
  return {
    program,
    both: [
      program,
      ...packages.filter((entry) => !nitroOnly(entry)).map(packageComponent),
      ...(oci === undefined ? [] : [containerComponent(oci, found)]),
    ],
    nitro: [
      ...init,
      ...packages.filter(nitroOnly).map(packageComponent),
      ...fileComponents(files),
      ...(kernel === undefined ? [] : [smallKernel(kernel)]),
    ],
    gramine: gramine === undefined ? [] : gramineParts(gramine),
    command: oci === undefined ? foundComponents(found) : [],
  };
}

/** An image by its measurement: its bytes can hold a signature, which is another one every time. */
function imageComponent({ target, file, measurement }: BomFacts['images'][number]): Component {
  const registers = Object.entries(measurement).filter(([name]) => name !== 'tee' && name !== 'pcr8');
  return component(TYPE.Firmware, file, {
    ref: `image:${file}`,
    description: target === 'nitro' ? 'Nitro enclave image' : 'SGX enclave (Gramine)',
    properties: registers.map(([name, value]) => [name, String(value)] as [string, string]),
  });
}

const ref = (part: Component): string => part.bomRef.value ?? '';

function depend(on: Component, parts: Iterable<Component>): void {
  for (const part of [...parts].sort((a, b) => order(ref(a), ref(b)))) on.dependencies.add(part.bomRef);
}

/** A UUID of version 8 (RFC 9562, 5.8: what is in it is ours) of the content. */
function serialNumber(content: string): string {
  const bytes = sha256(Buffer.from(content)).subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return `urn:uuid:${hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')}`;
}

/** The library has no model cards and no cryptographic properties: they are added where it turns components into JSON. */
class Factory extends Normalize.Factory {
  readonly #extras: Map<Component, object>;

  constructor(extras: Map<Component, object>) {
    super(Spec.Spec1dot6);
    this.#extras = extras;
  }

  override makeForComponent() {
    const extras = this.#extras;
    return new (class extends Normalize.ComponentNormalizer {
      override normalize(...args: Parameters<InstanceType<typeof Normalize.ComponentNormalizer>['normalize']>) {
        const normalized = super.normalize(...args);
        return normalized && { ...normalized, ...extras.get(args[0]) };
      }
    })(this);
  }
}
