import { byHandCatalogKey, catalogKey, naiveCatalogKey } from '../../redis/keys.js';
import { plural, SIDES, type Answer, type LabRequest, type Scenario, type Side } from './scenario.js';

const PRODUCTS = 400;
const KEYS: Record<Side, string> = {
  naive: naiveCatalogKey,
  byHand: byHandCatalogKey,
  atomic: catalogKey,
};

/** The callers read how many products there are, while one edition after the other is imported. */
export const catalogueSwap: Scenario = {
  labels: { told: 'Products of an edition', held: 'Products in Redis' },
  wrongs: {
    torn: {
      label: 'Reads of a part',
      said: (count, { of }) => `showed a part of the catalogue in ${count} of ${plural(of, 'read')}`,
    },
    missing: {
      label: 'Products missing in the end',
      said: (count, { told }) => `left ${told - count} of ${told} products`,
    },
  },
  right: ({ of }) => `showed the whole catalogue in ${plural(of, 'read')}`,
  handlers: {
    naive: ['naive/naive.service.ts#importCatalog'],
    byHand: ['by-hand/by-hand.service.ts#importCatalog'],
    atomic: ['catalog/catalog.service.ts#replaceCatalog'],
  },
  means: { naive: 'DEL, then HSET', byHand: 'a temporary key and RENAME', atomic: 'ShadowKeyService' },
  latency: {
    naive: 'A read is one HLEN. The importers beside it write one product at a time.',
    byHand: 'A read is one HLEN. The importers beside it write one product at a time.',
    atomic:
      'A read is one HLEN, as on the other sides. The importers write in chunks over a connection of their own, so they take less of the time of the processes that answer.',
  },
  page: 'shadow-keys',
  callsPerCaller: 20,

  async begin({ redis, request, closing, kills }) {
    const tallies = SIDES.map((side) => [side, { all: 0, torn: 0 }] as const);
    const reads = Object.fromEntries(tallies) as Record<Side, { all: number; torn: number }>;
    // Later than those of all runs before.
    let edition = Date.now();
    const importOne = async (
      side: Side,
      to: NonNullable<LabRequest['to']> = 'first process',
    ): Promise<Answer> =>
      await request(side, {
        method: 'POST',
        path: '/catalog/imports',
        body: { edition: ++edition, products: PRODUCTS },
        to,
        counted: false,
      });
    await Promise.all(SIDES.map(async (side) => await importOne(side)));

    return {
      async call(side) {
        const { outcome, body } = await request(side, { method: 'GET', path: '/catalog' });
        if (outcome !== 'accepted') return;
        reads[side].all += 1;
        if (body!['products'] !== PRODUCTS) reads[side].torn += 1;
      },
      /**
       * Each process imports, as where every replica has the same schedule. A process that is
       * killed has no second importer beside it, and no import is begun again: what it left is to
       * be seen.
       */
      async beside(side) {
        const processes = kills ? (['first process'] as const) : (['first process', 'last process'] as const);
        await Promise.all(
          processes.map(async (to) => {
            while (!closing.aborted) if ((await importOne(side, to)).outcome === 'unanswered') return;
          }),
        );
      },
      async inTheMiddle() {
        const written = await redis.hlen(naiveCatalogKey);
        return written > 0 && written < PRODUCTS / 2;
      },
      async audit(side) {
        const held = await redis.hlen(KEYS[side]);
        const { all, torn } = reads[side];
        // Importers are at work until the stage closes: before that, a part is no more than a read
        // of a part.
        const missing = closing.aborted ? Math.max(0, PRODUCTS - held) : 0;
        return { told: PRODUCTS, held, of: all, wrong: { torn, missing } };
      },
    };
  },
};
