import { soakQueues } from './queues.js';
import { reproducibly } from './reproduce.js';

describe('a queue under faults', () => {
  it('[QU-21] loses no job, gives none to two consumers at a time, and gives up exactly the poison jobs', async () => {
    const given = { jobs: 1_000, kills: 4, 'kill-every': 1_000, seed: 1 };
    await reproducibly('queues', given, async () => {
      const report = await soakQueues({ ...given, killEveryMs: 1_000, limitMs: 200_000 });
      expect(report).toMatchObject({
        pushed: 1_000,
        lost: 0,
        shared: 0,
        // Two that throw, and one that kills.
        poison: 3,
        dead: 3,
        wronglyJudged: 0,
        early: 0,
        disordered: 0,
        left: 0,
      });
      expect(report.kills + report.stops).toBeGreaterThanOrEqual(4);
      expect(report.lostReplies).toBeGreaterThan(0);
      expect(report.later).toBeGreaterThan(0);
    });
  }, 300_000);
});
