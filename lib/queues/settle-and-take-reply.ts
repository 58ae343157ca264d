import type { Delivery, Settled } from './delivery.js';
import { readContext } from './pushed-job.js';

/**
 * Payloads that one answer brings, in bytes; a larger one does not travel with it. It so holds up
 * no other call for long.
 */
export const MAX_REPLY_BYTES = 256 * 1_024;

/** Reads what the script that ends and takes jobs answers, as its header has it. */
export function readSettledAndTaken(raw: unknown) {
  const [answer, ...payloads] = raw as [Buffer, ...Buffer[]];
  const [settled = '', taken = '', left, suspects, next = ''] = answer.toString().split('|');
  const deliveries = taken.split(',');
  return {
    settled: settled.split(',') as Settled[],
    taken: payloads.map((payload, i): Delivery => {
      const [id = '', ended = '', forgiven, bytes, context = ''] = deliveries[i]!.split(':');
      const size = Number(bytes);
      return {
        id,
        fence: ended,
        deliveries: Number(ended) + 1 - Number(forgiven),
        size,
        payload: size > MAX_REPLY_BYTES ? undefined : payload,
        ...readContext(context),
      };
    }),
    left: left === '1',
    suspects: suspects === '1',
    nextMs: next === '' ? undefined : Number(next),
  };
}
