/** The facts about a record that are known without reading its result. */
export interface RecordSummary {
  readonly state: 'running' | 'committed' | 'done';
  readonly token: string;
  readonly kind: string;
  readonly resultBytes: number;
  readonly ttlMs: number;
  /** Of a committed record whose run goes on. */
  readonly aliveMs: number;
}
