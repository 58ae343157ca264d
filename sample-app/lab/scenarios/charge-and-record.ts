import { stockKey } from '../../redis/keys.js';
import { FAULTS } from '../faults.js';
import { Middle } from './middle.js';
import { confirmationOf, isGivenUp, type Confirmation } from './patience.js';
import { plural, SIDES, type LabRequest, type Scenario } from './scenario.js';

/** The cart whose process is killed: an early one, so that its customer's patience ends in time. */
const KILLED = 2;

/** One process is killed after the provider has charged, and before that is recorded. */
export const chargeAndRecord: Scenario = {
  fault: FAULTS['killed-worker'],
  labels: { told: 'Carts', held: 'Charges at the provider' },
  wrongs: {
    twice: {
      label: 'Charged twice',
      said: (count, { of }) => `charged ${count} of ${plural(of, 'cart')} twice`,
    },
    lost: {
      label: 'Charged, never confirmed',
      said: (count, { of }) =>
        `charged ${count} of ${plural(of, 'cart')} and never confirmed ${count === 1 ? 'it' : 'them'}`,
    },
    refused: {
      label: 'Turned away',
      said: (count, { of }) => `turned ${count} of ${plural(of, 'cart')} away`,
    },
  },
  right: ({ of }) => `charged and confirmed ${plural(of, 'cart')} once`,
  handlers: {
    naive: ['naive/naive.service.ts#pay'],
    byHand: ['by-hand/by-hand.service.ts#pay'],
    atomic: [
      'checkout/checkout.controller.ts#pay',
      'checkout/checkout.service.ts#reserve',
      'checkout/checkout.service.ts#confirm',
    ],
  },
  means: {
    naive: 'charge, then SET',
    byHand: 'SET NX, and the key for the provider',
    atomic: '@Idempotent with steps',
  },
  latency: {
    naive: 'GET, GET, SET, the charge, HSET, the mail and SET: six round trips beside the charge.',
    byHand:
      'SET NX, DECRBY, HSET, the charge, HSET, the mail and SET: six round trips beside the charge. A key that a killed process left pending answers 409 for an hour.',
    atomic:
      'The claim; reads and EXEC of the reservation; the charge; its record; reads and EXEC of the confirmation; the response. The first step takes one round trip more. A key that a killed process left is free after some 2 s. The next request then reads what was done, and goes on from there.',
  },
  page: 'steps',
  callsPerCaller: 4,

  async begin({ id, calls, redis, request, closing, provider, victim }) {
    // Enough for all, even if a side takes it twice.
    for (const side of SIDES) await redis.set(stockKey(id(side)), 2 * calls);
    const middle = new Middle(SIDES.map(id), provider, victim.pid);
    closing.addEventListener('abort', () => middle.release(), { once: true });
    const asked = { naive: 0, byHand: 0, atomic: 0 };
    const unconfirmed = {
      naive: new Set<string>(),
      byHand: new Set<string>(),
      atomic: new Set<string>(),
    };
    return {
      /**
       * A customer whose client sends the request again until it is confirmed, or no patience is
       * left.
       */
      async call(side, index) {
        const sku = id(side);
        const cart = `${sku}-${index}`;
        const send = async (to?: LabRequest['to']): Promise<Confirmation> => {
          const body = { cart, sku, quantity: 1, card: 'tok_visa' };
          const headers = { 'Idempotency-Key': cart };
          return confirmationOf(
            await request(side, { method: 'POST', path: '/checkout', body, headers, ...(to && { to }) }),
          );
        };
        asked[side] += 1;
        const first = index === KILLED ? await middle.hold(sku, () => send('first process')) : await send();
        if (await isGivenUp(first, send, closing)) unconfirmed[side].add(cart);
      },
      async inTheMiddle() {
        return middle.isReached;
      },
      async struck() {
        middle.release();
      },
      async audit(side) {
        const charges = await provider.chargesFor(id(side));
        const carts = new Set(charges.map(({ cart }) => cart));
        const lost = [...unconfirmed[side]].filter((cart) => carts.has(cart)).length;
        const wrong = { twice: charges.length - carts.size, lost, refused: unconfirmed[side].size - lost };
        return { told: asked[side], held: charges.length, of: asked[side], wrong };
      },
    };
  },
};
