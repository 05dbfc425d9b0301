/** The worked example of docs/sealed-model-format.md cannot rot: the script makes it again, and the toolkit opens it. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { hex } from '../../../src/core/bytes.ts';
import { xwingPublicFromSeed } from '../../../src/keys/xwing.ts';
import { verifySealed } from '../../../src/seal/index.ts';
import { openShare } from '../../../src/seal/recipients.ts';
import { combineShares } from '../../../src/seal/shares.ts';
import { makeExample, PATHS, renderPage, valuesJson, withExample } from '../../reference/example.ts';
import { xwingPublic } from '../../reference/hpke.ts';
import { haveVectors, vectors } from '../vectors.ts';
import type { XWing } from './fixture.ts';

describe('the worked example', () => {
  const { entries, sealed, seeds } = makeExample();
  const keyOf = (who: string): XWing => {
    const seed = Buffer.from(seeds[who] ?? []);
    return { seed, publicRaw: xwingPublicFromSeed(seed) };
  };

  test('page, files and script say the same (renew: bin/with-node test/reference/example.ts --write)', () => {
    const page = readFileSync(PATHS.page, 'utf8');
    expect(page).toBe(withExample(page, renderPage(entries, sealed.length)));
    expect(page).toContain('## Worked example');
    expect(readFileSync(PATHS.values, 'utf8')).toBe(valuesJson(entries));
    expect(readFileSync(PATHS.sealed).equals(sealed)).toBe(true);
  });

  test('opens with the toolkit: the recovery key, and the two brokers', async () => {
    const { checks, parsed } = await verifySealed(PATHS.sealed, { key: keyOf('recovery') });
    expect(checks.filter(({ status }) => status === 'fail')).toEqual([]);
    expect(checks).toContainEqual(expect.objectContaining({ id: 'seal.contents', status: 'pass' }));
    const shares = await Promise.all(
      parsed.header.recipients
        .slice(0, 2)
        .map((recipient, i) => openShare(parsed.header, recipient, keyOf(`broker ${i + 1}`).seed)),
    );
    const ck = entries.find(({ name }) => name === 'content key CK');
    expect(hex(await combineShares(shares))).toBe(hex(ck?.bytes ?? new Uint8Array()));
  });

  test.skipIf(!haveVectors)('its X-Wing is that of the published vectors', () => {
    const all = JSON.parse(readFileSync(vectors('hpke-pq', 'mlkem768-x25519.json'), 'utf8'));
    expect(all.length).toBeGreaterThan(0);
    for (const { skRm, pkRm } of all) expect(hex(xwingPublic(new Uint8Array(Buffer.from(skRm, 'hex'))))).toBe(pkRm);
  });
});
