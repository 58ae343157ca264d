import { headed, type StoredResult } from './stored-result.js';

/** The owner of a record, as the record names it. */
interface RecordOwner {
  readonly token: string;
  readonly fingerprint: string;
}

/** A record as the claim of a run writes it. */
export const runningRecord = ({ token, fingerprint }: RecordOwner): string =>
  `1|running|${token}|${fingerprint}||||`;

/** The beginning of a record that outlives its lease, up to its time. */
export const lastingHead = ({ token, fingerprint }: RecordOwner): string =>
  `1|lasting|${token}|${fingerprint}||`;

/** The arguments of the completion of a run. */
export function completion(owner: RecordOwner, { kind, bytes }: StoredResult, ttlMs: number) {
  const done = headed(`1|done|${owner.token}|${owner.fingerprint}|${kind}|||`, bytes);
  return { running: runningRecord(owner), ttlMs, kind, done };
}

/**
 * A record that is committed by a transaction, as the scripts on records write it.
 * @param aliveUntilMs server time until which its run counts as alive
 */
export const committedRecord = (
  { token, fingerprint }: RecordOwner,
  { kind, bytes }: StoredResult,
  aliveUntilMs: number,
): string | Buffer => headed(`1|committed|${token}|${fingerprint}|${kind}|${aliveUntilMs}||`, bytes);

/** State and owner of a record; neither where there is none, or something else. */
export function ownerOf(text: string | null): { readonly state?: string; readonly token?: string } {
  const [version, state, token] = text?.split('|', 3) ?? [];
  return version === '1' ? { state, token } : {};
}
