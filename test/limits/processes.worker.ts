import { worker } from '../support/worker.js';
import { LIMITS } from './processes-limits.js';
import { logged, WrappedLimits } from './wrapped-limits.js';

export interface Data {
  readonly url: string;
  readonly callers: number;
  readonly calls: number;
}

/** Takes from random limits, alone and together. @returns how many calls were let through */
worker<Data>(async ({ data: { url, callers, calls } }) => {
  const limits = new WrappedLimits(url, logged);
  await limits.ready();
  let letThrough = 0;
  const caller = async (): Promise<void> => {
    for (let i = 0; i < calls; i++) {
      const some = LIMITS.filter(() => Math.random() < 0.3);
      const cost = 1 + Math.floor(Math.random() * 3);
      const taken = (some.length > 0 ? some : LIMITS.slice(0, 1)).map((one) => ({ ...one, cost }));
      if ((await limits.take(taken)).allowed) letThrough++;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  await limits.close();
  return letThrough;
});
