import { type Check, compare } from '../../core/check.ts';
import type { MeasuredConfig } from '../../core/measured-config.ts';
import type { Statement } from '../../manifest/statement.ts';
import { isGramine, isNitro } from '../image.ts';

/** Whether an image measured what its build manifest says of it. Where a build has several images, `image` says which one. */
export function configurationChecks(statement: Statement, measured: MeasuredConfig, image: string): Check[] {
  const { externalParameters } = statement.predicate.buildDefinition;
  const { project, model, owner } = externalParameters;
  const kind = String((project.runtime as { kind?: unknown } | undefined)?.kind ?? 'none');
  const several = statement.subject.filter((subject) => isNitro(subject) || isGramine(subject)).length > 1;
  const same = (id: string, expected: string, actual: string) =>
    compare(`configuration.${id}`, expected, actual, several ? `${image}: ${actual}` : undefined);
  return [
    same('project', String(project.name), measured.project),
    same('model', model.digest.sha256 ?? 'none', measured.model.digest),
    same('runtime', kind, measured.runtime.kind),
    same('owner', owner, measured.model.owner),
  ];
}
