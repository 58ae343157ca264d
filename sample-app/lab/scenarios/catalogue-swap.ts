import { catalogKey, naiveCatalogKey } from '../../redis/keys.js';
import { plural, SIDES, type Answer, type Scenario, type Side } from './scenario.js';

const PRODUCTS = 400;

/** The callers read how many products there are, while one edition after the other is imported. */
export const catalogueSwap: Scenario = {
  labels: {
    lost: 'Reads of a part',
    oversold: null,
    told: 'Products of an edition',
    held: 'Products in Redis',
  },
  handlers: {
    naive: ['naive/naive.service.ts#importCatalog'],
    atomic: ['catalog/catalog.service.ts#replaceCatalog'],
  },
  callsPerCaller: 20,

  async begin({ redis, request, closing }) {
    const reads = { naive: { all: 0, torn: 0 }, atomic: { all: 0, torn: 0 } };
    // Later than those of all runs before.
    let edition = Date.now();
    const importOne = async (side: Side): Promise<Answer> =>
      await request(side, {
        method: 'POST',
        path: '/catalog/imports',
        body: { edition: ++edition, products: PRODUCTS },
        to: 'first process',
        counted: false,
      });
    await Promise.all(SIDES.map(importOne));

    return {
      async call(side) {
        const { outcome, body } = await request(side, { method: 'GET', path: '/catalog' });
        if (outcome !== 'accepted') return;
        reads[side].all += 1;
        if (body!['products'] !== PRODUCTS) reads[side].torn += 1;
      },
      /** An import that dies with its process is not begun again: what it left is to be seen. */
      async beside(side) {
        while (!closing.aborted) if ((await importOne(side)).outcome === 'unanswered') return;
      },
      async inTheMiddle() {
        const written = await redis.hlen(naiveCatalogKey);
        return written > 0 && written < PRODUCTS / 2;
      },
      async audit(side) {
        const held = await redis.hlen(side === 'naive' ? naiveCatalogKey : catalogKey);
        const { all, torn } = reads[side];
        return { told: PRODUCTS, held, lost: torn, of: all, oversold: null };
      },
    };
  },

  verdict: ({ told, held, lost, of }) =>
    `showed a part of the catalogue in ${lost} of ${plural(of, 'read')}` +
    (held === told ? '' : ` and left ${held} of ${told} products`),
};
