import { bytesOf, type StoredResult } from './stored-result.js';

/**
 * A record that is committed by a transaction, as the scripts on records write it.
 * @param aliveUntilMs server time until which its run is taken to go on
 */
export const committedRecord = (
  { token, fingerprint }: { readonly token: string; readonly fingerprint: string },
  result: StoredResult,
  aliveUntilMs: number,
): Buffer =>
  Buffer.concat([
    Buffer.from(`1|committed|${token}|${fingerprint}|${result.kind}|${aliveUntilMs}||`),
    bytesOf(result),
  ]);

/** State and owner of a record; neither where there is none, or something else. */
export function ownerOf(text: string | null): { readonly state?: string; readonly token?: string } {
  const [version, state, token] = text?.split('|', 3) ?? [];
  return version === '1' ? { state, token } : {};
}
