/** The facts about a record that are known without reading its result. */
export interface RecordSummary {
  readonly state: 'running' | 'committed' | 'done';
  readonly token: string;
  readonly kind: string;
  readonly resultBytes: number;
  readonly ttlMs: number;
  /** The time for which the run of a committed record is taken to be alive. */
  readonly aliveMs: number;
}
