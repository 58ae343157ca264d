import { CounterLimitError, ReservationService } from '../../../lib/index.js';
import { startApp } from '../../support/app.js';
import { worker } from '../../support/worker.js';

/** The reports of a holder on each purchase: before and after it confirms. */
export interface Report {
  step: 'confirming' | 'confirmed' | 'not-confirmed';
  purchase: string;
  quantity: number;
}

/** Holds, thinks, and confirms, releases or forgets, until it is killed. */
worker<{ url: string; ttlMs: number }>(async ({ data, index, send }) => {
  const app = await startApp({ connection: data.url });
  const reservations = app.get(ReservationService);
  for (let n = 0; ; n++) {
    const quantity = (n % 3) + 1;
    const purchase = `${index}:${n}`;
    try {
      const { id } = await reservations.hold('stock', quantity, { ttlMs: data.ttlMs });
      if (n % 4 === 0) continue;
      if (n % 4 === 1) {
        await reservations.release(id);
        continue;
      }
      send({ step: 'confirming', purchase, quantity } satisfies Report);
      const confirmed = await reservations.confirm(id);
      send({ step: confirmed ? 'confirmed' : 'not-confirmed', purchase, quantity } satisfies Report);
    } catch (error) {
      if (!(error instanceof CounterLimitError)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
});
