import { AtomicRedisEvents } from '../../lib/observability/events.js';
import { Observer } from '../../lib/observability/observer.js';

/** Of nobody, for parts of the library that are tested by themselves. */
export const unobserved = (): Observer =>
  new Observer(new AtomicRedisEvents(), 'test', { namespace: 'atomic:' });
