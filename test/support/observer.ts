import { AtomicRedisEvents } from '../../lib/observability/events.js';
import { Observer } from '../../lib/observability/observer.js';

/** An observer without listeners, for parts of the library that are tested alone. */
export const unobserved = (): Observer =>
  new Observer(new AtomicRedisEvents(), 'test', { namespace: 'atomic:' });
