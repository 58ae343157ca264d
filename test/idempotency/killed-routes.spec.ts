import { join } from 'node:path';
import { PLATFORMS } from '../nest/platforms.js';
import { useRedis } from '../support/redis.js';
import { waitFor } from '../support/wait-for.js';
import { startWorker, type WorkerProcess } from '../support/workers.js';
import type { KilledRoutesJob } from './killed-routes.worker.js';

interface Answer {
  status: number;
  headers: Headers;
  body: Record<string, unknown>;
}

describe.each(PLATFORMS)('routes whose process is killed (%s)', (platform) => {
  const redis = useRedis();
  const workers: WorkerProcess[] = [];

  const start = async (life: KilledRoutesJob['life']): Promise<{ process: WorkerProcess; port: number }> => {
    const script = join(__dirname, 'killed-routes.worker.ts');
    const process = startWorker({ script, data: { url: redis.server.url, platform, life } });
    workers.push(process);
    return { process, port: await process.next<number>() };
  };

  const post = async (port: number, route: string): Promise<Answer> => {
    const response = await fetch(`http://127.0.0.1:${port}/${route}`, {
      method: 'POST',
      headers: { 'idempotency-key': route, 'content-type': 'application/json' },
      body: '{"sku":"tea"}',
    });
    const { status, headers } = response;
    return { status, headers, body: (await response.json()) as Answer['body'] };
  };

  /** Kills a process in the middle of a request to each route, and starts another one. */
  const killIn = async (routes: string[]): Promise<number> => {
    const { process, port } = await start('first');
    const answered = routes.map((route) =>
      post(port, route).then(
        ({ status }) => Promise.reject(new Error(`${route} did not stand still: ${status}`)),
        () => undefined,
      ),
    );
    const reached = (async () => {
      const found = [];
      for (const _ of routes) found.push(await process.next<string>());
      return found.toSorted();
    })();
    expect(await Promise.race([reached, Promise.all(answered)])).toEqual(routes.toSorted());
    await process.kill();
    return (await start('second')).port;
  };

  /** Retries while the lease of the dead process lasts. */
  const retry = (port: number, route: string): Promise<Answer> =>
    waitFor(`the lease on ${route}`, async () => {
      const answer = await post(port, route);
      return answer.status !== 409 && answer;
    });

  afterEach(() => Promise.all(workers.splice(0).map((worker) => worker.kill())));

  it('[ID-50] [ID-59] continue with the results of their steps, in controllers of each scope and in provider methods', async () => {
    const routes = ['plain', 'around/7', 'scoped', 'resolver'];
    const port = await killIn(routes);
    const charges = await redis.client.lrange('charges', 0, -1);
    expect(new Set(charges).size).toBe(routes.length);
    const none = 'ILLEGAL_RUN_STATE';
    const more: Record<string, object> = {
      'around/7': { id: 7, asked: none, after: none, body: { sku: 'tea', pipe: none } },
      scoped: { has: true },
    };
    for (const route of routes) {
      const { status, headers, body } = await retry(port, route);
      expect([route, status]).toEqual([route, route === 'plain' ? 200 : 201]);
      expect(body).toEqual({
        before: [2, true],
        attempt: 2,
        resumed: true,
        by: workers[0]!.pid,
        charge: body.key,
        key: body.key,
        ...more[route],
      });
      expect(charges).toContain(body.key);
      if (route === 'around/7') expect(headers.get('location')).toBe('/around/7');
      expect((await post(port, route)).body).toEqual(body);
    }
    expect(await redis.client.lrange('charges', 0, -1)).toEqual(charges);
  });

  it('[ID-54] [ID-55] are held, or ask their probe until it answers', async () => {
    const routes = ['held', 'probed', 'abandoned'];
    const port = await killIn(routes);
    const held = await retry(port, 'held');
    expect(held).toMatchObject({ status: 503, body: { code: 'STEP_INTERRUPTED' } });
    const again = await post(port, 'held');
    expect(again).toMatchObject({ status: 503, body: { code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' } });
    for (const route of ['probed', 'abandoned']) {
      for (const mood of ['throws', 'hangs', 'answers nonsense']) {
        const failed = await retry(port, route);
        expect([mood, failed.status, failed.body.code]).toEqual([mood, 503, 'PROBE_FAILED']);
      }
    }
    const probed = await retry(port, 'probed');
    expect(probed).toMatchObject({ status: 201, body: { sent: 'found', by: 5 } });
    for (let i = 0; i < 2; i++) {
      const { status, headers, body } = await retry(port, 'abandoned');
      expect([status, headers.get('location'), body]).toEqual([202, '/7', { id: 7 }]);
    }
    expect((await redis.client.lrange('sent', 0, -1)).toSorted()).toEqual(routes.toSorted());
  });
});
