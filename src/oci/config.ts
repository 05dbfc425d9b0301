/** What of an image's configuration matters to whoever runs it. */
export interface ImageConfig {
  entrypoint: string[] | null;
  cmd: string[] | null;
  /** "NAME=value", in order. */
  env: string[];
  /** "" where the image says nothing. */
  workingDir: string;
  /** USER as written: "", "name", "uid", either with ":group". */
  user: string;
  architecture: string;
  os: string;
  /** The parsed document, for whoever needs more (ExposedPorts, Labels). */
  raw: unknown;
}
