import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { Redis } from 'ioredis';
import { startRedisServer } from '../../lib/testing/index.js';
import type { LabDescription } from '../../sample-app/lab/lab.controller.js';
import type { RunEvent } from '../../sample-app/lab/run.js';
import { waitFor } from '../support/wait-for.js';
import { post, read, send, startShop, stopShop, type Shop } from './shop.js';

/** Empty for a process that has just ended. */
function readOfProcess(pid: string, file: 'cmdline' | 'stat'): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

/**
 * Processes by their parent, each as its id, a space and its command. The kernel's own list of a
 * parent's children may leave one out while another ends (proc(5)), so every process is looked at.
 */
function childrenOf(parent: number): string[] {
  // Slim images of Linux have no ps, and macOS has no /proc.
  if (!existsSync('/proc/self/stat')) {
    return execFileSync('ps', ['-axo', 'pid=,ppid=,args='], { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line.trim().split(/\s+/)[1] === String(parent));
  }
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      // The command before it stands in brackets and may hold anything.
      const [, ppid] = /\) \S (\d+) [^)]*$/.exec(readOfProcess(pid, 'stat')) ?? [];
      return ppid === String(parent);
    })
    .map((pid) => `${pid} ${readOfProcess(pid, 'cmdline')}`);
}

describe('the race lab behind its page', () => {
  let shop: Shop;
  let redis: Redis;

  beforeAll(async () => {
    shop = await startShop();
    const [, url] = /^Redis: (redis:\S+),/m.exec(shop.output) ?? [];
    redis = new Redis(url!, { db: 1 });
  });

  afterAll(async () => {
    redis?.disconnect();
    if (shop) await stopShop(shop);
  });

  const begin = (choice: object, signal?: AbortSignal): Promise<Response> =>
    fetch(`${shop.url}/lab/runs`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(choice),
      ...(signal && { signal }),
    });

  async function run(choice: object): Promise<RunEvent[]> {
    const text = await (await begin(choice)).text();
    return [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data!) as RunEvent);
  }

  const resultOf = async (choice: object): Promise<Extract<RunEvent, { type: 'result' }>> => {
    const last = (await run(choice)).at(-1);
    if (last?.type !== 'result') throw new Error(`The run ended with ${JSON.stringify(last)}`);
    return last;
  };

  const ownKeys = async (): Promise<string[]> =>
    (await redis.keys('*')).filter((key) => !key.startsWith('shop:') && key !== 'mails:sent');

  /** Processes that the lab has started. */
  function workers(): number[] {
    return childrenOf(shop.process.pid!)
      .filter((line) => line.includes('lab/worker.js'))
      .map((line) => Number.parseInt(line, 10));
  }

  it('[LAB-2] reports its samples and the final state of Redis, and leaves no keys of its own', async () => {
    const events = await run({ scenario: 'counter', callers: 5, fault: 'none' });
    const result = events.at(-1)!;
    expect(events.slice(0, -1).every(({ type }) => type === 'sample')).toBe(true);
    expect(result).toMatchObject({
      type: 'result',
      calls: 100,
      cutShortAfterS: null,
      naive: { accepted: 100, told: 100, callsDone: 100 },
      byHand: { accepted: 100, told: 100, held: 100, total: 0 },
      atomic: { accepted: 100, told: 100, held: 100, total: 0, wrong: { lost: 0, twice: 0 } },
    });
    const { naive } = result as Extract<RunEvent, { type: 'result' }>;
    expect(naive.wrong.lost).toBe(naive.told - naive.held);
    expect(await ownKeys()).toEqual([]);
  });

  it('[LAB-2] gives the right result on all sides with one caller', async () => {
    const result = (await run({ scenario: 'withdraw', callers: 1, fault: 'none' })).at(-1);
    const right = { accepted: 10, conflict: 10, told: 0, held: 0, total: 0 };
    expect(result).toMatchObject({ type: 'result', naive: right, byHand: right, atomic: right });
  });

  it('[LAB-2] runs once at a time, and ends a run whose client disconnects', async () => {
    const leaving = new AbortController();
    const first = await begin({ scenario: 'withdraw', callers: 100, fault: 'slow-redis' }, leaving.signal);
    await first.body!.getReader().read();
    expect(await post(shop, '/lab/runs', { scenario: 'counter', callers: 1, fault: 'none' })).toMatchObject({
      status: 409,
      problem: { code: 'RUN_IN_PROGRESS' },
    });
    leaving.abort();
    const next = await waitFor('the next run', async () => {
      const events = await run({ scenario: 'counter', callers: 1, fault: 'none' });
      return events.at(-1)?.type === 'result' && events;
    });
    expect(next.at(-1)).toMatchObject({ naive: { held: 20 }, atomic: { held: 20 } });
    expect(await ownKeys()).toEqual([]);
  });

  it.each([
    [{ scenario: 'nothing', callers: 1, fault: 'none' }, /scenario/],
    [{ scenario: 'counter', callers: 0, fault: 'none' }, /callers/],
    [{ scenario: 'counter', callers: 201, fault: 'none' }, /callers/],
    [{ scenario: 'counter', callers: 1.5, fault: 'none' }, /callers/],
    [{ scenario: 'counter', callers: 1, fault: 'fire' }, /fault/],
    [{ scenario: 'counter', callers: 1, fault: 'none', forMs: 60_001 }, /forMs/],
    [{}, /scenario/],
  ])('[LAB-2] refuses %j', async (choice, detail) => {
    expect(await post(shop, '/lab/runs', choice)).toMatchObject({
      status: 400,
      problem: { detail: expect.stringMatching(detail) },
    });
  });

  it('[LAB-2] completes a run even after clients disconnected during earlier ones', async () => {
    const choice = { scenario: 'order-retry', callers: 20, fault: 'lost-reply' };
    for (let i = 0; i < 2; i++) {
      // Some go while a run is being prepared, some in the middle of one.
      await begin(choice, AbortSignal.timeout(700))
        .then((response) => response.text())
        .catch(() => undefined);
      const events = await waitFor('the next run may begin', async () => {
        const answer = await begin({ scenario: 'counter', callers: 5, fault: 'killed-worker' });
        return answer.status === 200 && (await answer.text());
      });
      expect(events).not.toContain('event: error');
    }
  });

  it('[LAB-2] restarts no process when the shop ends in the middle of a run', async () => {
    const other = await startShop();
    try {
      const client = new AbortController();
      const response = await fetch(`${other.url}/lab/runs`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ scenario: 'order-retry', callers: 20, fault: 'lost-reply' }),
        signal: client.signal,
      });
      await response.body!.getReader().read();
      other.process.kill('SIGTERM');
      expect(await other.exited).toBe(0);
      // One would look for the proxy in vain, and say so.
      expect(other.output).not.toContain('REDIS_UNAVAILABLE');
      client.abort();
    } finally {
      await stopShop(other);
    }
  });

  it('[LAB-2] shows the code that runs: each handler appears word for word in its file', async () => {
    const { scenarios } = await read<LabDescription>(shop, '/lab');
    const shown = Object.values(scenarios).flatMap(({ handlers: { naive, byHand, atomic } }) => [
      ...naive,
      ...byHand,
      ...atomic,
    ]);
    expect(shown).toHaveLength(24);
    for (const { file, code } of shown) {
      const indented = code.replaceAll(/^(?=.)/gm, '  ');
      expect(readFileSync(file, 'utf8')).toContain(`\n${indented}\n`);
      expect(code).toMatch(/^\}$/m);
    }
    const [, order] = scenarios['order-retry'].handlers.atomic;
    expect(order!.code).toMatch(/^\/\*\*[\s\S]*?\*\/\nasync create\(dto: CreateOrderDto\)/);
    expect(scenarios.stock.handlers.atomic[0]!.code).toMatch(/^@AtomicCounter\(\{$/m);
  });

  it.each([
    ['stock', 'gone', /^lost \d+ of \d+ reservations/, /^took the stock of \d+ reservations once$/],
    ['counter', 'twice', /^lost \d+ of \d+ views/, /^counted \d+ views once$/],
  ])(
    '[LAB-1] [LAB-4] %s: once replies are lost, the naive version loses calls, a hand-written command takes effect twice, and the atomic version is right',
    async (scenario, kind, naive, atomic) => {
      const result = await resultOf({ scenario, callers: 10, fault: 'lost-reply' });
      expect(result.naive.verdict).toMatch(naive);
      expect(result.byHand.wrong[kind]).toBeGreaterThan(0);
      expect(result.atomic).toMatchObject({ total: 0, verdict: expect.stringMatching(atomic) });
    },
  );

  it('[LAB-4] withdraw: a hand-written lock turns callers away once a reply is lost, and loses nothing', async () => {
    const result = await resultOf({ scenario: 'withdraw', callers: 10, fault: 'lost-reply', forMs: 6_000 });
    expect(result.byHand.wrong).toEqual({ lost: 0, overpaid: 0, turnedAway: expect.any(Number) });
    expect(result.byHand.wrong['turnedAway']).toBeGreaterThan(0);
    expect(result.byHand.verdict).toMatch(/^turned \d+ calls? away$/);
    expect(result.atomic).toMatchObject({ total: 0 });
  });

  it('[LAB-1] [LAB-4] order-retry: once replies are lost, the naive version makes orders twice, a hand-written SET NX never confirms some, and the atomic version is right', async () => {
    const result = await resultOf({
      scenario: 'order-retry',
      callers: 10,
      fault: 'lost-reply',
      forMs: 30_000,
    });
    expect(result.faults['Replies lost']).toBeGreaterThan(0);
    expect(result.naive.verdict).toMatch(/^made \d+ duplicates? of 50 orders$/);
    expect(result.naive.held).toBe(50 + result.naive.total);
    expect(result.byHand.wrong['duplicates']).toBe(0);
    expect(result.byHand.wrong['refused']).toBeGreaterThan(0);
    expect(result.atomic).toMatchObject({ held: 50, total: 0, verdict: 'made 50 orders once' });
  });

  it('[LAB-4] reports that a run was cut short, and how many calls each side made', async () => {
    const result = await resultOf({ scenario: 'withdraw', callers: 50, fault: 'slow-redis', forMs: 200 });
    // One lock at a time, and several slow round trips for each call.
    expect(result).toMatchObject({ calls: 1_000, cutShortAfterS: 0.2 });
    expect(result.byHand.callsDone).toBeLessThan(1_000);
  });

  it('[LAB-1] [LAB-6] charge-and-record: after a kill between charge and record, naive charges twice, SET NX loses the order, and atomic does neither', async () => {
    const result = await resultOf({
      scenario: 'charge-and-record',
      callers: 2,
      fault: 'none',
      forMs: 60_000,
    });
    expect(result.faults).toEqual({ 'Processes killed': 1 });
    expect(result.naive.verdict).toMatch(/^charged \d+ of 8 carts twice/);
    expect(result.naive.held).toBe(8 + result.naive.wrong['twice']!);
    expect(result.byHand.wrong).toMatchObject({ twice: 0, lost: expect.any(Number) });
    expect(result.byHand.wrong['lost']).toBeGreaterThan(0);
    expect(result.atomic).toMatchObject({ told: 8, held: 8, total: 0, callsDone: 8 });
    expect(result.atomic.verdict).toBe('charged and confirmed 8 carts once');
  });

  it('[LAB-7] stopped-holder: a process that was stopped beyond its lock writes with both locks, and not with the permit', async () => {
    const result = await resultOf({ scenario: 'stopped-holder', callers: 1, fault: 'none', forMs: 60_000 });
    expect(result.faults).toEqual({ 'Processes stopped': 1 });
    expect(result.naive.wrong['stale']).toBeGreaterThan(0);
    expect(result.byHand.wrong['stale']).toBeGreaterThan(0);
    expect(result.atomic.wrong['stale']).toBe(0);
    // The stopped process learns so.
    expect(result.atomic.failed).toBeGreaterThan(0);
    expect(result.atomic.held).toBeGreaterThanOrEqual(result.atomic.told);
  });

  it('[LAB-2] leaves the data of the shop unchanged', async () => {
    await run({ scenario: 'stock', callers: 2, fault: 'none' });
    expect(await read(shop, '/accounts/alice')).toEqual({ id: 'alice', balance: 100 });
    expect(await read(shop, '/orders')).toEqual({ count: 0 });
  });

  it('[LAB-2] ends its processes with the shop, even when the shop is killed while one of them is stopped', async () => {
    const { body } = await begin({ scenario: 'stopped-holder', callers: 1, fault: 'none' });
    let seen = '';
    for await (const chunk of body!.pipeThrough(new TextDecoderStream())) {
      seen += chunk;
      if (seen.includes('"Processes stopped":1')) break;
    }
    const pids = await waitFor('two processes of the lab', () => {
      const found = workers();
      return found.length === 2 && found;
    });
    shop.process.kill('SIGKILL');
    await shop.exited;
    const isAlive = (pid: number): boolean => {
      try {
        return process.kill(pid, 0);
      } catch {
        return false;
      }
    };
    await waitFor('the end of both', () => !pids.some(isAlive));
    expect(pids.filter(isAlive)).toEqual([]);
  });
});

describe('a shop on a Redis of its owner', () => {
  it('[LAB-2] has no lab: neither its page nor its runs', async () => {
    const server = await startRedisServer();
    const shop = await startShop({ REDIS_URL: server.url });
    try {
      expect(await send('GET', shop, '/lab')).toMatchObject({ status: 404 });
      expect(await post(shop, '/lab/runs', { scenario: 'counter', callers: 1, fault: 'none' })).toMatchObject(
        { status: 404 },
      );
      expect(await send('GET', shop, '/lab.js')).toMatchObject({ status: 404 });
      expect(await read(shop, '/')).toMatchObject({ 'POST /orders': expect.any(String) });
      expect(shop.output).not.toContain('Race lab');
    } finally {
      await stopShop(shop);
      await server.stop();
    }
  });
});
