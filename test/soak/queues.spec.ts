import { soakQueues } from './queues.js';

describe('a queue under faults', () => {
  it('[QU-21] loses no job and gives none to two at a time, and gives up exactly the poison ones', async () => {
    const report = await soakQueues({ jobs: 1_000, kills: 3, killEveryMs: 1_000, seed: 1, limitMs: 40_000 });
    expect(report).toMatchObject({
      pushed: 1_000,
      lost: 0,
      shared: 0,
      poison: 2,
      dead: 2,
      wronglyJudged: 0,
      left: 0,
    });
    expect(report.kills).toBe(3);
    expect(report.lostReplies).toBeGreaterThan(0);
  }, 90_000);
});
