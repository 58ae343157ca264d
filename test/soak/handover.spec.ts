import { isHandedOver, soakHandover } from './handover.js';
import { reproducibly } from './reproduce.js';

describe('work that is handed over with its effects, under faults', () => {
  it('[QU-34] exists exactly if its transaction was applied, and takes effect once', async () => {
    const given = { jobs: 1_500, kills: 5, pauses: 3, 'strike-every': 1_500, seed: 1 };
    await reproducibly('handover', given, async () => {
      const report = await soakHandover({ ...given, strikeEveryMs: 1_500, limitMs: 150_000 });
      expect(report).toMatchObject({
        placedTwice: 0,
        wronglyShipped: 0,
        shippedUnplaced: 0,
        wronglyMailed: 0,
        mailedUnshipped: 0,
        toldWrongly: 0,
        dead: 0,
        left: 0,
      });
      expect(isHandedOver(report)).toBe(true);
      expect(report.placed).toBeGreaterThanOrEqual(1_500);
      expect(report.kills).toBeGreaterThanOrEqual(5);
      expect(report.lostReplies).toBeGreaterThan(0);
    });
  }, 250_000);
});
