import { defineOperation } from '../operations/operation.js';
import { luaDelay, luaWake, QUEUE_KEYS } from './lua-queue.js';
import { contextOf, type Job } from './pushed-job.js';
import type { QueueAccess } from './queue-access.js';

const { pending, jobs, history, wake, delayed } = QUEUE_KEYS;

/**
 * Puts jobs at the end of a queue, or among those that wait for their time, all or none. Their
 * marker outlives the push, so that a copy of it does nothing even when the jobs are done.
 */
export const push = defineOperation({
  type: 'queues.push',
  keys: { pending, jobs, history, wake, delayed },
  args: {
    contexts: "contexts of the jobs in their order, each with a comma behind it; '' when none has one",
    delays:
      "after how many ms each job may be taken, in their order, each with a comma behind it: '' for at once; '' when none waits",
    '...idsAndPayloads': 'for each job its id, then its payload',
  },
  returns: 'PUSHED',
  uses: [luaWake],
  lua: `
-- A key of another type fails here, or as the first write, which needs memory too: where there is none, nothing is pushed.
redis.call('LLEN', KEYS.pending)
if ARGV.contexts ~= '' then redis.call('HLEN', KEYS.history) end
local has_news = true
if ARGV.delays == '' then
  for i = ARGV.idsAndPayloads, #ARGV, 2 do
    redis.call('HSET', KEYS.jobs, ARGV[i], ARGV[i + 1])
    redis.call('RPUSH', KEYS.pending, ARGV[i])
  end
else
  local function first_delayed() return redis.call('ZRANGE', KEYS.delayed, '0', '0')[1] end
  local first_before, delays, i = first_delayed(), 0, ARGV.idsAndPayloads
  has_news = false
  for delay in string.gmatch(ARGV.delays, '([^,]*),') do
    redis.call('HSET', KEYS.jobs, ARGV[i], ARGV[i + 1])
    if delay == '' then
      redis.call('RPUSH', KEYS.pending, ARGV[i])
      has_news = true
    else
      delays = delays + 1
      ${luaDelay('KEYS.delayed', 'ARGV[i]', 'tonumber(delay)', 'delays')}
    end
    i = i + 2
  end
  -- One process at the least knows when the next is due.
  if first_delayed() ~= first_before then has_news = true end
end
if ARGV.contexts ~= '' then
  local i = ARGV.idsAndPayloads
  for context in string.gmatch(ARGV.contexts, '([^,]*),') do
    if context ~= '' then redis.call('HSET', KEYS.history, ARGV[i], '0:0:0:' .. context .. ':') end
    i = i + 2
  end
end
if has_news then wake(KEYS.wake) end
return remember('PUSHED')
`,
  reply: () => undefined,
  check: (call: { to: QueueAccess; jobs: readonly Job[] }) => call,
  does: ({ to }) => `Pushing to ${to.title}`,
  encode: ({ to, jobs: pushed }) => {
    const idsAndPayloads: (string | Buffer)[] = [];
    let hasContext = false;
    let isDelayed = false;
    for (const { id, payload, trace, retry, delayMs } of pushed) {
      idsAndPayloads.push(id, payload);
      hasContext ||= trace !== undefined || retry !== undefined;
      isDelayed ||= delayMs > 0;
    }
    return {
      keys: { ...to.keys },
      args: {
        contexts: hasContext ? listOf(pushed, contextOf) : '',
        delays: isDelayed ? listOf(pushed, ({ delayMs }) => delayMs || '') : '',
        idsAndPayloads,
      },
    };
  },
  decode: () => undefined,
});

/** Joins one value per job, each followed by a comma. */
const listOf = (pushed: readonly Job[], of: (job: Job) => string | number): string =>
  pushed.map((job) => `${of(job)},`).join('');
