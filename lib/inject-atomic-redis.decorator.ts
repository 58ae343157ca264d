import { Inject } from '@nestjs/common';
import { getAtomicRedisToken } from './atomic-redis.constants.js';

/** Injects the `AtomicRedis` façade of a registration; without a name, of the default one. */
export const InjectAtomicRedis = (name?: string): PropertyDecorator & ParameterDecorator =>
  Inject(getAtomicRedisToken(name));
