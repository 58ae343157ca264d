export interface HandoverData {
  /** Of the fault proxy. */
  url: string;
  /** Of the server itself, for what callers are told. */
  directUrl: string;
  /** Unlike that of any other worker, also of one that it replaces. */
  name: string;
}

export const ORDERS = 'handover-orders';
export const MAILS = 'handover-mails';

/** What happened, as Redis has it: hashes of an order's id to how often, and sets of ids. */
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
