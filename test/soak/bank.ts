/**
 * The accounts of the transfers. They share one hash tag, so the same transactions could run on a
 * Cluster.
 */
export const ACCOUNTS = 20;
/** Little enough for transfers to be refused now and then. */
export const OPENING_BALANCE = 100;

export const accountKey = (account: number): string => `{bank}:account:${account}`;
/** A list, to which every transaction appends its call's entry. */
export const AUDIT_KEY = '{bank}:audit';
/** Watched by the calls that change no account, and never written. */
export const CALM_KEY = '{bank}:calm';

export interface Transfer {
  readonly from: number;
  readonly to: number;
  readonly amount: number;
}

/** A call's line in the audit; without a transfer it is all that the call writes. */
export interface AuditEntry {
  readonly id: string;
  readonly transfer?: Transfer;
}

export const formatEntry = (entry: AuditEntry): string => JSON.stringify(entry);
export const parseEntry = (line: string): AuditEntry => JSON.parse(line) as AuditEntry;
