import { type AtomaError, usageError } from '../core/errors.ts';
import { shown, unsupported } from './json.ts';

/** As in an index: OCI image specification 1.1, "Image Index", platform. */
export interface Platform {
  os: string;
  architecture: string;
  variant?: string | undefined;
}

export const platformText = ({ os, architecture, variant }: Platform): string =>
  [os, architecture, ...(variant ? [variant] : [])].map(shown).join('/');

/** Reads "linux/amd64" or "linux/amd64/v2". Throws `ERR_OCI_UNSUPPORTED` (exit 2). */
export function parsePlatform(text: string): Platform {
  const [, os, architecture, variant] = /^([a-z0-9]+)\/([a-z0-9_]+)(?:\/([a-z0-9]+))?$/.exec(text) ?? [];
  if (os === undefined || architecture === undefined) throw unsupported(`the platform "${shown(text)}"`, 'is none');
  return { os, architecture, variant };
}

/**
 * How well `offered` serves who asked for `wanted`: 0 not at all, more is better. Without a variant the one that runs
 * everywhere is best (none, or amd64's v1), then the least demanding; with one, the most demanding up to it.
 */
export function platformRank(offered: Platform, wanted: Platform): number {
  if (offered.os !== wanted.os || offered.architecture !== wanted.architecture) return 0;
  const level = (variant: string | undefined): number =>
    variant ? Number(/^v(\d{1,3})$/.exec(variant)?.[1] ?? 999) : 1;
  if (!wanted.variant) return 1000 - level(offered.variant);
  return level(offered.variant) <= level(wanted.variant) ? level(offered.variant) : 0;
}

/** Throws `ERR_OCI_PLATFORM` (exit 2) where the configuration is not of the platform that was asked for. */
export function checkPlatform(config: Platform, wanted: Platform, what: string): void {
  if (config.os !== wanted.os || config.architecture !== wanted.architecture)
    throw wrongPlatform(what, wanted, [platformText({ os: config.os, architecture: config.architecture })]);
}

export function wrongPlatform(what: string, wanted: Platform, found: string[]): AtomaError {
  const list = [...new Set(found)];
  const text = list.length === 0 ? 'none' : list.slice(0, 20).join(', ');
  return usageError('ERR_OCI_PLATFORM', `${what}: expected an image for ${platformText(wanted)}, found ${text}`, {
    hint: 'build or pull the image for that platform (docker build --platform, skopeo copy --override-arch)',
    details: { expected: platformText(wanted), found: list.slice(0, 20) },
  });
}
