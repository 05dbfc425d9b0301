import { type Check, compare } from '../../core/check.ts';
import type { MeasuredConfig } from '../../core/measured-config.ts';
import type { Statement } from '../../manifest/statement.ts';

/** Whether an image measured what its build manifest says of it. */
export function configurationChecks(statement: Statement, measured: MeasuredConfig): Check[] {
  const { externalParameters } = statement.predicate.buildDefinition;
  const { project, model, owner } = externalParameters;
  const kind = String((project.runtime as { kind?: unknown } | undefined)?.kind ?? 'none');
  return [
    compare('configuration.project', String(project.name), measured.project),
    compare('configuration.model', model.digest.sha256 ?? 'none', measured.model.digest),
    compare('configuration.runtime', kind, measured.runtime.kind),
    compare('configuration.owner', owner, measured.model.owner),
  ];
}
