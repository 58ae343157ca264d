import { Redis } from 'ioredis';
import { LeaseLostError } from '../../lib/atomic-redis.errors.js';
import { applyScript } from '../../lib/counters/apply.script.js';
import { enforcedScript } from '../../lib/operations/enforced-script.js';
import { lookForOne } from '../../lib/permits/acquire.operations.js';
import { takeFree } from '../../lib/permits/take-free.operation.js';
import { leave, release, renew } from '../../lib/permits/permit.operations.js';
import { JobCommit, type CommittedJob } from '../../lib/queues/job-commit.js';
import { extend } from '../../lib/queues/queue.operations.js';
import { settleAndTake } from '../../lib/queues/settle-and-take.operations.js';
import { orderedArguments, orderedKeys, type Script } from '../../lib/scripting/script.js';
import * as transfer from '../../lib/transfers/across-slots/across-slots.operations.js';
import { getAndSet } from '../../lib/values/value.operations.js';
import { useRedis } from '../support/redis.js';
import { replay, tracesOf, type Steps } from './replay.js';

const LONG_MS = 600_000;
/** A time limit that has not passed, and one that has. */
const IN_TIME = 10 ** 15;
const PASSED = 1;
const NOBODY = '9';

const bitsOf = (mask: string): string[] =>
  ['0', '1', '2', '3'].filter((i) => Number(mask) & (1 << Number(i)));

describe('the models of spec/, replayed step by step:', () => {
  const redis = useRedis();
  const connections: Redis[] = [];

  beforeAll(() => {
    for (let i = 0; i < 4; i++) connections.push(new Redis(redis.server.url));
  });

  afterAll(() => {
    for (const connection of connections) connection.disconnect();
  });

  /**
   * Replays the traces of a model. They must have each form of step, and lines of each form in
   * `least` at least so often: what they do not reach is not compared.
   */
  const replayAll = async (
    name: string,
    least: readonly (readonly [line: RegExp, count: number])[],
    stepsOf: () => Promise<Steps> | Steps,
  ): Promise<void> => {
    const traces = tracesOf(name);
    let forms: RegExp[] = [];
    for (const trace of traces) {
      for (const connection of connections) await connection.unwatch();
      await redis.client.flushall();
      const steps = await stepsOf();
      forms = steps.map(([form]) => form);
      await replay(trace, steps);
    }
    const lines = traces.flat();
    const counted = [...forms.map((form) => [form, 1] as const), ...least].map(
      ([form, count]) => [form, count, lines.filter((line) => form.test(line)).length] as const,
    );
    expect(counted.filter(([, count, found]) => found < count)).toEqual([]);
  };

  /** Sends a script as it is: neither again, nor with a time limit of its own. */
  const evaluationOf = (
    script: Script,
    keys: Record<string, string | readonly string[]>,
    args: Record<string, string | number | readonly (string | number)[]>,
  ): [string, number, ...(string | Buffer)[]] => {
    const notAfterMs = { notAfterMs: IN_TIME, ...args }['notAfterMs'];
    const keyList = orderedKeys(script, keys);
    const values = orderedArguments(script, args);
    const at = script.args.indexOf('notAfterMs');
    if (at !== -1) values[at] = String(notAfterMs);
    return [script.lua, keyList.length, ...keyList, ...values];
  };
  const run = async (...given: Parameters<typeof evaluationOf>): Promise<unknown> =>
    await redis.client.eval(...evaluationOf(...given));

  it('the scripts of queues agree with their model at every step', async () => {
    const part = (name: string): string => `queue:${name}`;
    const [pending, jobs, history, leases] = ['pending', 'jobs', 'history', 'leases'].map(part) as [
      string,
      string,
      string,
      string,
    ];
    const keys = { pending, jobs, history, leases };
    const others = { dead: part('dead'), delayed: part('delayed'), wake: part('wake') };
    const id = 'job';
    const least = [
      [/^EXEC of consumer \d: DONE$/, 10],
      [/^EXEC of consumer \d: REFUSED$/, 10],
    ] as const;
    await replayAll('queues', least, async () => {
      await redis.client.multi().hset(jobs, id, 'x').rpush(pending, id).exec();
      const fences: Record<string, string> = {};
      const commitOf = (i: string): JobCommit =>
        new JobCommit({
          commands: { keys },
          delivery: { id, fence: fences[i] },
        } as unknown as CommittedJob);
      const advance = (args: Record<string, string | number | readonly string[]>): Promise<unknown> =>
        run(
          settleAndTake.script,
          { marker: 'marker', ...keys, ...others },
          {
            keepMarker: '',
            maxDeliveries: 100,
            leaseMs: LONG_MS,
            mode: 'any',
            neighbours: '',
            woken: '',
            ...args,
          },
        );
      const deadlineKey = (i: string): string => `deadline:${i}`;
      const markerOf = (i: string): string => `commit:${i}`;
      return [
        [
          /^Redis: consumer (\d) takes delivery (\d)$/,
          async (i, delivery) => {
            const [answer] = (await advance({ wanted: 1, ends: [] })) as string[];
            expect(answer!.split('|')[1]).toMatch(new RegExp(`^${id}:${delivery}:`));
            fences[i] = delivery;
          },
        ],
        [
          /^Redis: consumer (\d) gives back: (\w+)$/,
          async (i, what) => {
            const [answer] = (await advance({
              wanted: 0,
              ends: ['release', id, fences[i]!, '', ''],
            })) as string[];
            expect(answer!.split('|')[0]).toBe(what);
          },
        ],
        [/^the lease of delivery \d ends$/, () => redis.client.zadd(leases, 'XX', 1, id)],
        [
          /^Redis: consumer (\d) prolongs the lease of delivery (\d)$/,
          async (i, delivery) => {
            expect(fences[i]).toBe(delivery);
            const args = { keepMarker: '', id, fence: delivery, leaseMs: 2 * LONG_MS };
            expect(await run(extend.script, { marker: 'marker', history, leases }, args)).toBe('EXTENDED');
          },
        ],
        [
          /^consumer (\d) has watched D; delivery (\d), lease outlasts D: (\d)$/,
          async (i, delivery, outlasts) => {
            const connection = connections[Number(i)]!;
            await connection.unwatch();
            await connection.set(deadlineKey(i), '', 'PX', LONG_MS);
            await connection.set(markerOf(i), 'armed');
            await connection.watch(markerOf(i), deadlineKey(i));
            expect(fences[i]).toBe(delivery);
            const verified = await commitOf(i).verify(connection, deadlineKey(i));
            expect(verified === false ? '0' : '1').toBe(outlasts);
          },
        ],
        [/^the deadline key of consumer (\d) expires$/, (i) => redis.client.del(deadlineKey(i))],
        [/^fault: consumer (\d) loses its connection$/, (i) => redis.client.set(markerOf(i), 'touched')],
        [
          /^EXEC of consumer (\d): (\w+)$/,
          async (i, what) => {
            const multi = connections[Number(i)]!.multi().incr('effects');
            for (const { name, args } of commitOf(i).writes()) multi.call(name, ...(args as string[]));
            const replies = await multi.exec();
            expect(replies === null ? 'REFUSED' : 'DONE').toBe(what);
            if (replies) expect(replies.map(([, reply]) => reply).slice(0, 3)).toEqual([1, 1, 1]);
            expect(await redis.client.hexists(jobs, id)).toBe(replies ? 0 : 1);
          },
        ],
      ];
    });
    // A delivery that lost its job is told so.
    await redis.client.multi().del(history).zadd(leases, IN_TIME, id).exec();
    const lost = new JobCommit({
      commands: { keys },
      delivery: { id, fence: '1' },
    } as unknown as CommittedJob);
    await expect(lost.verify(connections[0]!, 'deadline:0')).rejects.toThrow(LeaseLostError);
  });

  it.each<[name: string, absent: RegExp | undefined, least: [RegExp, number][]]>([
    ['permits', /renewal/, [[/^Redis: (EXEC|write) of .*: LOST_IT/, 10]]],
    ['permits-of-callers-that-leave', /renewal|write|WATCH|EXEC/, [[/leaves: RELEASED/, 5]]],
    ['rows', undefined, [[/^Redis: renewal of \d, length 2: DONE/, 5]]],
  ])('the scripts of permits agree with their model at every step: %s', async (name, absent, least) => {
    const line = 'line';
    const state = 'state';
    const slot = 'slot';
    const last = name === 'rows' ? '3' : '2';
    const tokenOf = (i: string): string => (i === '8' ? 'released' : (i === last ? 'Q' : 'P').repeat(16) + i);
    const ownerOf = (token: string | undefined): string => token?.at(-1) ?? NOBODY;
    await replayAll(name, least, async () => {
      /** Fences of the model, and those of Redis. */
      const fences = new Map<string, number>();
      const tickets: Record<string, string> = {};
      const looks: Record<string, number> = {};
      const lateLooks: Record<string, number> = {};
      let late: string | undefined;

      let leaseLeft = 0;
      /** By the model's numbers: one that has to confirm, one, and one for a transaction. */
      const lengths: Record<string, [above: number, most: number]> = {
        0: [0, 1_000],
        1: [LONG_MS - 60_000, LONG_MS],
        2: [2 * LONG_MS - 60_000, 2 * LONG_MS],
      };
      /** Runs a script, and keeps how long the slot's lease is then; none ends by itself, and all in line stay alive. */
      const act = async (...given: Parameters<typeof evaluationOf>): Promise<string> => {
        const lasting = `local left = redis.call('PTTL', KEYS[1])
          if left > 0 and left <= 1000 then redis.call('PEXPIRE', KEYS[1], '${LONG_MS}') end
          for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
            if string.sub(field, 1, 1) == 'w' then redis.call('HSET', KEYS[2], field, '${IN_TIME}:${LONG_MS}') end
          end
          return left`;
        const replies = await redis.client
          .multi()
          .eval(...evaluationOf(...given))
          .eval(lasting, 2, slot, state)
          .exec();
        const [[error, reply], [, left]] = replies as [[Error | null, unknown], [null, number]];
        if (error) throw error;
        leaseLeft = left;
        return String(reply);
      };
      const stateIs = async (rest: string, isOfNow = true): Promise<void> => {
        const form = /^slot (\d), mark (\d), lease (\d), fence (\d+), line (\d+)$/;
        const [, holder, mark, lease, fence, inLine] = form.exec(rest)! as unknown as string[];
        const token = await redis.client.get(slot);
        const isMark = token !== null && /^[.,]/.test(token);
        expect([isMark ? NOBODY : ownerOf(token ?? undefined), isMark ? ownerOf(token) : NOBODY]).toEqual([
          holder,
          mark,
        ]);
        const isGivenNow = !fences.has(fence!);
        if (holder !== NOBODY && isOfNow && (isGivenNow || lease !== '0')) {
          const [above, most] = lengths[lease!]!;
          expect(leaseLeft).toBeGreaterThan(above);
          expect(leaseLeft).toBeLessThanOrEqual(most);
        }
        const real = Number((await redis.client.hget(state, 'f0')) ?? 0);
        if (!fences.has(fence!)) {
          expect(real).toBeGreaterThan(Math.max(0, ...fences.values()));
          fences.set(fence!, real);
          // The fences of a row are set aside at once.
          if (!fences.has(String(Number(fence) - 1))) fences.set(String(Number(fence) - 1), real - 1);
        }
        expect(real).toBe(fences.get(fence!));
        const waiting = await redis.client.zrange(line, '0', '-1');
        expect(waiting.map(ownerOf).toSorted()).toEqual(bitsOf(inLine!));
      };
      const take = async (i: string, isCopy: string): Promise<string> => {
        const args = { keepMarker: isCopy === '1' ? '1' : '', token: tokenOf(i), leaseMs: LONG_MS };
        const answer = await act(takeFree.script, { state, slot }, args);
        if (answer === 'look') return 'LOOKS';
        return answer.startsWith('held:') ? 'HELD' : 'GRANTED';
      };
      const look = async (i: string, isCopy: string, waits: string): Promise<string> => {
        const args = {
          keepMarker: isCopy === '1' ? '1' : '',
          token: tokenOf(i),
          leaseMs: LONG_MS,
          waitMs: waits === '1' ? LONG_MS : 0,
          ticket: tickets[i] ?? '',
        };
        const marker = `look:${i}:${(late === i ? lateLooks : looks)[i] ?? 0}`;
        late = undefined;
        const [kind, ticket] = (await act(lookForOne.script, { marker, state, line, slot }, args)).split(':');
        if (kind === 'waiting') tickets[i] = ticket!;
        return kind!.toUpperCase();
      };
      const handed = (answer: string): string[] => {
        const [what, heir, , , row = ''] = answer.split(':');
        const behind = row === '' ? NOBODY : row.split(',').map(ownerOf).join();
        return [what === 'lost' ? 'LOST_IT' : 'RELEASED', ownerOf(heir), behind];
      };
      if (name === 'rows') {
        await take('0', '');
        await look('1', '', '1');
        await look('2', '', '1');
        fences.set('0', 0).set('1', Number(await redis.client.hget(state, 'f0')));
      } else {
        fences.set('0', 0);
      }
      const steps: Steps = [
        [
          /^(\d) begins to look$/,
          async (i) => {
            looks[i] = (looks[i] ?? 0) + 1;
          },
        ],
        [
          /^fault: a request of (\d) is under way$/,
          async (i) => {
            lateLooks[i] = looks[i] ?? 0;
          },
        ],
        [
          /^fault: a late request of (\d)$/,
          async (i) => {
            late = i;
          },
        ],
        [/^the lease ends$/, () => redis.client.del(slot)],
        [
          /^Redis: (\d) takes, copy (\d): (\w+); (.*)$/,
          async (i, isCopy, answer, rest) => {
            expect(await take(i, isCopy)).toBe(answer);
            await stateIs(rest);
          },
        ],
        [
          /^Redis: (\d) looks, copy (\d), waits (\d): (\w+); (.*)$/,
          async (i, isCopy, waits, answer, rest) => {
            expect(await look(i, isCopy, waits)).toBe(answer);
            await stateIs(rest);
          },
        ],
        [
          /^Redis: release of (\d), fence (\d+), left (\d+), copy (\d), rows (\d): (\w+) to (\d), behind (\d); (.*)$/,
          async (i, fence, left, isCopy, hasRows, answer, heir, behind, rest) => {
            const terms = `${fences.get(fence)!}:0:${hasRows === '1' ? 16 : 0}`;
            const args = {
              token: tokenOf(i),
              row: [terms, ...bitsOf(left).map(tokenOf)].join(','),
              keepMarker: isCopy === '1' ? '1' : '',
              keptMs: LONG_MS,
            };
            const reply = await act(release.script, { state, line, slot }, args);
            expect(handed(reply)).toEqual([answer, heir, behind]);
            await stateIs(rest);
          },
        ],
        [
          /^Redis: (\d) leaves: (\w+) to (\d); (.*)$/,
          async (i, answer, heir, rest) => {
            const args = { token: tokenOf(i), keptMs: LONG_MS };
            const reply = await act(leave.script, { state, line, slots: [slot] }, args);
            expect(handed(reply).slice(0, 2)).toEqual([answer, heir]);
            await stateIs(rest);
          },
        ],
        [
          /^Redis: renewal of (\d), length (\d): (\w+); (.*)$/,
          async (i, length, answer, rest) => {
            const leases = [tokenOf(i), Number(length) * LONG_MS];
            const reply = await act(renew.script, { slots: [slot] }, { leases });
            expect(reply === 'renewed' ? 'DONE' : 'LOST_IT').toBe(answer);
            await stateIs(rest);
          },
        ],
        [
          /^Redis: write of (\d) as (\d): (\w+); (.*)$/,
          async (_, token, answer, rest) => {
            const keys = { permit: slot, marker: 'write', value: 'value' };
            const args = { permitToken: tokenOf(token), keepMarker: '1', next: 'x', ttl: 'none' };
            const reply = await act(enforcedScript(getAndSet.script), keys, args);
            expect(reply === 'PERMIT_LOST' ? 'LOST_IT' : 'DONE').toBe(answer);
            await stateIs(rest);
          },
        ],
        [
          /^Redis: WATCH of (\d) as (\d); (.*)$/,
          async (i, _, rest) => {
            await connections[Number(i)]!.watch(slot);
            await stateIs(rest, false);
          },
        ],
        [
          /^Redis: EXEC of (\d): (\w+); (.*)$/,
          async (i, answer, rest) => {
            const replies = await connections[Number(i)]!.multi().incr('effects').exec();
            expect(replies === null ? 'LOST_IT' : 'DONE').toBe(answer);
            await stateIs(rest, false);
          },
        ],
      ];
      return steps.filter(([form]) => !absent?.test(form.source));
    });
  });

  it.each<[name: string, least: [RegExp, number][]]>([
    [
      'counters',
      [
        [/: STALE;/, 5],
        [/: TOO_LATE;/, 10],
        [/LIMITED/, 10],
        [/^the state of lane/, 5],
      ],
    ],
    [
      'counters-of-lanes',
      [
        [/: TOO_LATE;/, 5],
        [/LIMITED/, 10],
        [/^the state of lane/, 3],
      ],
    ],
  ])('the scripts of counters agree with their model at every step: %s', async (name, least) => {
    const stateOf = (lane: string): string => `state:${lane}`;
    const counter = 'counter';
    const bound = 2;
    await replayAll(name, least, () => [
      [
        /^Redis: batch (\d) of lane (\d), commands (\d), over (\d): (\w+)([^;]*); value (\d)$/,
        async (sequence, lane, commands, over, answer, each, value) => {
          const inBatch = bitsOf(commands);
          const late = new Set(bitsOf(over));
          const runs = inBatch.map((i) => `1,${late.has(i) ? IN_TIME : 0},add,1,${bound},,,,`).join(';');
          const isOver = inBatch.every((i) => late.has(i));
          const keys = { state: stateOf(lane), touched: [counter, 'life', 'holds'] };
          const args = {
            notAfterMs: isOver ? PASSED : IN_TIME,
            sequence,
            stateTtlMs: LONG_MS,
            runs: [runs],
          };
          const reply = String(await run(applyScript, keys, args));
          if (answer === 'ANSWERED') {
            const answers = reply.split(',').map((one, i) => {
              const became = one === 'late' ? 'TOO_LATE' : one.includes('limited') ? 'LIMITED' : 'APPLIED';
              return ` ${inBatch[i]} ${became}`;
            });
            expect(answers.join('')).toBe(each);
          } else {
            expect(reply).toBe(answer);
          }
          expect((await redis.client.get(counter)) ?? '0').toBe(value);
        },
      ],
      [/^another client takes 1$/, () => redis.client.decr(counter)],
      [/^the state of lane (\d) expires$/, (lane) => redis.client.del(stateOf(lane))],
    ]);
  });

  it('the scripts of transfers across slots agree with their model at every step', async () => {
    const GREATEST = 2n ** 63n - 1n;
    const keys = {
      marker: 'marker',
      from: 'from',
      to: 'to',
      intents: 'intents',
      order: 'order',
      decision: 'decision',
    };
    const { from, to, intents, order, decision } = keys;
    const least = [
      [/: IS_LATE: /, 10],
      [/: IS_GONE: /, 5],
    ] as const;
    await replayAll('transfers', least, async () => {
      let id = '';
      await redis.client.set(from, '1');
      const stateIs = async (rest: string): Promise<void> => {
        const form = /^from (\d), to (\d), intent (\w+), decision (\w+)$/;
        const [, left, reached, intent, decided] = form.exec(rest)! as unknown as string[];
        expect(await redis.client.get(from)).toBe(left);
        const balance = BigInt((await redis.client.get(to)) ?? 0);
        expect(String(balance === GREATEST ? 0n : balance)).toBe(reached);
        const state = (await redis.client.hget(intents, id))?.split(',')[0] ?? 'absent';
        expect(state.toUpperCase()).toBe(intent);
        expect(await redis.client.zcard(order)).toBe(state === 'absent' ? 0 : 1);
        const words: Record<string, string> = { credited: 'PAID', refused: 'REFUSED' };
        expect(words[(await redis.client.get(decision))?.split(',')[0] ?? ''] ?? 'NONE').toBe(decided);
      };
      return [
        [
          /^Redis: begin: (.*)$/,
          async (rest) => {
            const args = { keepMarker: '1', nonce: 'nonce', amount: 1, min: 0, exact: '', details: '{}' };
            const answer = String(
              await run(transfer.begin.script, { marker: keys.marker, from, intents, order }, args),
            );
            expect(answer).toMatch(/^begun,/);
            id = answer.split(',')[1]!;
            await stateIs(rest);
          },
        ],
        [
          /^Redis: decision asked for by \d, in time (\d), full \d: (\w+): (.*)$/,
          async (isInTime, answer, rest) => {
            const args = { validUntilMs: isInTime === '1' ? IN_TIME : PASSED, amount: 1, exact: '' };
            const reply = String(await run(transfer.decide.script, { decision, to }, args));
            const words: Record<string, string> = { credited: 'PAID', refused: 'REFUSED', late: 'IS_LATE' };
            expect(words[reply.split(',')[0]!]).toBe(answer);
            await stateIs(rest);
          },
        ],
        [
          /^Redis: close as (\w+): (\w+): (.*)$/,
          async (as, answer, rest) => {
            const args = { id, became: as === 'PAID' ? 'credited' : 'refunded' };
            const reply = String(await run(transfer.close.script, { from, intents }, args));
            const words: Record<string, string> = {
              credited: 'PAID',
              refunded: 'REFUSED',
              gone: 'IS_GONE',
            };
            expect(words[reply]).toBe(answer);
            await stateIs(rest);
          },
        ],
        [
          /^Redis: expiry of the decision: (.*)$/,
          async (rest) => {
            await run(transfer.expireDecision.script, { decision }, { ttlMs: LONG_MS });
            await stateIs(rest);
          },
        ],
        [
          /^Redis: forget: (.*)$/,
          async (rest) => {
            await run(transfer.forget.script, { intents, order }, { id });
            await stateIs(rest);
          },
        ],
        [
          /^the decision expires$/,
          async () => {
            expect(await redis.client.pttl(decision)).toBeGreaterThan(0);
            await redis.client.del(decision);
          },
        ],
        [
          /^the amount fits: (\d)$/,
          async (fits) =>
            await (fits === '1' ? redis.client.del(to) : redis.client.set(to, String(GREATEST))),
        ],
      ];
    });
  });
});
