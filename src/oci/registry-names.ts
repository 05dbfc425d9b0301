/** The one registry that people name otherwise than it answers, and whose official images have a namespace of their own. */
const DOCKER = 'docker.io';
const DOCKER_ALIASES = ['index.docker.io', 'registry-1.docker.io'];
const DOCKER_API = 'registry-1.docker.io';
const DOCKER_NAMESPACE = 'library';
/** Under which Docker's own configuration files keep its credentials. */
const DOCKER_CREDENTIALS = 'https://index.docker.io/v1/';

export interface RegistryName {
  /** One for each registry, whatever it was called. */
  registry: string;
  repository: string;
}

/** The one name of a repository: "docker.io/python" is "docker.io/library/python". */
export function canonicalName({ registry, repository }: RegistryName): RegistryName {
  const isDocker = registry === DOCKER || DOCKER_ALIASES.includes(registry);
  if (!isDocker) return { registry, repository };
  return { registry: DOCKER, repository: repository.includes('/') ? repository : `${DOCKER_NAMESPACE}/${repository}` };
}

/** Host and port that serve a registry's API. */
export const apiHost = (registry: string): string => (registry === DOCKER ? DOCKER_API : registry);

/** The keys under which a registry's credentials may lie in a configuration file, the usual first. */
export const credentialKeys = (registry: string): string[] =>
  registry === DOCKER
    ? [DOCKER_CREDENTIALS, DOCKER, ...DOCKER_ALIASES]
    : [registry, `https://${registry}`, `https://${registry}/v1/`, `https://${registry}/v2/`, `http://${registry}`];

/**
 * The one form of a name as `docker save` writes it ("app:1", "docker.io/library/app:1"), to compare by: without a
 * registry it is Docker's, without a tag "latest".
 */
export function canonicalTag(text: string): string {
  const slash = text.indexOf('/');
  const first = text.slice(0, Math.max(slash, 0));
  const hasRegistry = /[.:]|^localhost$/.test(first);
  const registry = hasRegistry ? first : DOCKER;
  const [, name = '', tag = 'latest'] = /^(.*?)(?::([^:/]*))?$/.exec(hasRegistry ? text.slice(slash + 1) : text) ?? [];
  const canonical = canonicalName({ registry, repository: name });
  return `${canonical.registry}/${canonical.repository}:${tag}`;
}
