import path from 'node:path';
import { keysOfLimit } from '../../lib/limits/limit-keys.js';
import { KeySpace } from '../../lib/scripting/key-space.js';
import { useRedis } from '../support/redis.js';
import { runWorkers } from '../support/workers.js';
import { LimitModel } from './limit-model.js';
import { LIMITS } from './processes-limits.js';
import type { Data } from './processes.worker.js';

const PROCESSES = 4;
const CALLERS = 64;

describe('limits under several processes', () => {
  const redis = useRedis();

  it('[LM-2] accept exactly the calls that the model accepts at the microsecond of Redis', async () => {
    const data: Data = { url: redis.server.url, callers: CALLERS, calls: 60 };
    const script = path.join(__dirname, 'processes.worker.ts');
    const letThrough = await runWorkers<number>({ script, count: PROCESSES, data });

    const keys = new KeySpace('atomic:');
    const limitOf = new Map(
      LIMITS.map((limit) => [keysOfLimit(keys, { algorithm: 'gcra', ...limit }).state, limit]),
    );
    const model = new LimitModel();
    let calls = 0;
    const sums = { letThrough: 0, refused: 0 };
    for (const entry of await redis.client.lrange('log', 0, -1)) {
      const [us, named, runs, answer] = entry.split('\n') as [string, string, string, string];
      const states = named.split(' ');
      const answers = answer.split(';');
      for (const [i, run] of runs.split(' ').entries()) {
        const [head, ...specs] = run.split('|');
        const count = Number(head!.split(',')[0]);
        const limits = specs.map((spec) => {
          const limit = limitOf.get(states.shift()!)!;
          const [, modulus, , , price, rest] = spec.split(',').map(Number);
          const isGcra = limit.algorithm === 'gcra';
          const cost = isGcra
            ? Math.round(((price! + rest! / modulus!) * limit.limit) / limit.perMs / 1_000)
            : price!;
          return { ...limit, cost };
        });
        const expected = Array.from({ length: count }, () => model.take(limits, BigInt(us)).allowed);
        const through = expected.filter(Boolean).length;
        expect(`${us} ${run}: ${answers[i]!.split('|')[0]}`).toBe(`${us} ${run}: ${through}`);
        calls += count;
        sums.letThrough += through;
        sums.refused += count - through;
      }
    }
    expect(calls).toBe(PROCESSES * CALLERS * data.calls);
    expect(sums.letThrough).toBe(letThrough.reduce((sum, one) => sum + one));
    expect(sums.letThrough).toBeGreaterThan(100);
    expect(sums.refused).toBeGreaterThan(100);
  });
});
