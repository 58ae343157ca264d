import { getQueueToken } from '../atomic-redis.constants.js';
import { injection } from '../injection.js';
import type { QueueDefinition } from './queue-definition.js';

/**
 * Injects the queue of a definition, which `AtomicRedisModule.forFeature([emails], name)` of the
 * same module, or an exporting one, provides.
 *
 * ```ts
 * constructor(@InjectQueue(emails) private readonly emails: ReliableQueue<Email>) {}
 * ```
 */
export const InjectQueue = (
  definition: QueueDefinition,
  name?: string,
): PropertyDecorator & ParameterDecorator => injection('InjectQueue', getQueueToken(definition, name));
