import { nameOf, worstOf, type CellResult } from './cell.js';
import { OUTCOMES, type Outcome } from './verdict.js';

/** Cells of the check in CI. A harness that no longer sees what a peer is known for is blind. */
export const SHORT: Readonly<Record<string, 'right' | Outcome>> = {
  'run-once/idempotent/lost-reply': 'right',
  'run-once/idempotent/late-copy': 'right',
  'run-once/idempotent/restart': 'right',
  'run-once/idempotent-probe/lost-reply': 'right',
  'run-once/idempotent-probe/kill': 'right',
  'run-once/idempotent-probe/stopped-after': 'right',
  'run-once/tutorial-interceptor/kill': 'doubled',
  'read-modify-write/optimistic-retry/lost-reply': 'right',
  'read-modify-write/optimistic-retry/late-copy': 'right',
  'read-modify-write/optimistic-retry/stopped-after': 'right',
  'read-modify-write/get-set/stopped-after': 'lost',
  'counter/counters/lost-reply': 'right',
  'counter/counters/late-copy': 'right',
  'counter/ioredis-lua/lost-reply': 'doubled',
  'lock/permit/lost-reply': 'right',
  'lock/permit/stopped-after': 'right',
  'rate-limit/limits/lost-reply': 'right',
  'rate-limit/limits/late-copy': 'right',
  'queue/completes-job/lost-reply': 'right',
  'queue/completes-job/kill': 'right',
  'queue/bullmq/kill': 'doubled',
};

/** Outcomes of which the error itself tells its caller. */
const HARMLESS: readonly Outcome[] = ['unknown', 'refused'];

/** Outcomes of ours for which the documentation gives no reason. */
export const unexpectedOf = ({ peer, fault, counts }: CellResult): Outcome[] =>
  OUTCOMES.filter(
    (outcome) =>
      counts[outcome] > 0 &&
      !HARMLESS.includes(outcome) &&
      !peer.documented?.[fault.id]?.outcomes.includes(outcome),
  );

/** @returns why a result is not as it must be, or undefined */
export function complaint(result: CellResult, isShort: boolean): string | undefined {
  const { peer, fault } = result;
  const expected = isShort ? SHORT[nameOf(result)] : undefined;
  if (expected === 'right' && worstOf(result) !== 'ok') return `${worstOf(result)}, where it must be right`;
  if (expected === 'right' && result.notStruck > 0) return `${result.notStruck} runs were not struck`;
  if (expected && expected !== 'right' && result.counts[expected] === 0)
    return `${expected} is known of it, and was not seen: the harness is blind`;
  if (fault.id === 'none' && worstOf(result) !== 'ok' && !peer.isUnprotected)
    return 'it is wrong without a fault';
  const unexpected = peer.isOurs ? unexpectedOf(result) : [];
  return unexpected.length > 0 ? unexpected.join(', ') : undefined;
}
