import { getAtomicRedisToken } from './atomic-redis.constants.js';
import { injection } from './injection.js';

/** Injects the `AtomicRedis` façade of a registration; without a name, of the default one. */
export const InjectAtomicRedis = (name?: string): PropertyDecorator & ParameterDecorator =>
  injection('InjectAtomicRedis', getAtomicRedisToken(name));
