export interface HandoverData {
  /** URL of the fault proxy. */
  url: string;
  /** URL of the server itself, for the reports of callers. */
  directUrl: string;
  /** Unlike that of any other worker, also of one that it replaces. */
  name: string;
}

export const ORDERS = 'handover-orders';
export const MAILS = 'handover-mails';

/** Records in Redis: hashes from an order's id to a count, and sets of ids. */
export const HandoverKeys = {
  placed: 'handover:placed',
  shipped: 'handover:shipped',
  mailed: 'handover:mailed',
  toldDone: 'handover:told-done',
  toldRefused: 'handover:told-refused',
  /** There while no more orders are to be placed. */
  closed: 'handover:closed',
} as const;

/** Keys that transactions read and change, so that they meet conflicts. */
export const HOT_KEYS = ['handover:hot:0', 'handover:hot:1', 'handover:hot:2'] as const;
