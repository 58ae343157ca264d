import { Module, type DynamicModule, type Provider } from '@nestjs/common';
import { getAtomicRedisToken, getQueueToken, getScriptToken } from './atomic-redis.constants.js';
import { ConfigurationError } from './atomic-redis.errors.js';
import type { AtomicRedis } from './atomic-redis.js';
import { isQueueDefinition, type QueueDefinition } from './queues/queue-definition.js';
import type { Script } from './scripting/script.js';

/** A script or a queue that `AtomicRedisModule.forFeature` makes injectable. @inline */
export type Feature = Script | QueueDefinition;

/** The scripts or queues that one `AtomicRedisModule.forFeature` makes injectable. */
@Module({})
export class FeatureModule {
  static of(features: readonly Feature[], name: string | undefined): DynamicModule {
    if (!Array.isArray(features)) throw wrong();
    const providers = features.map((feature: Feature) => providerOf(feature, name));
    return { module: FeatureModule, providers, exports: providers };
  }
}

function providerOf(feature: Feature, name: string | undefined): Provider {
  const inject = [getAtomicRedisToken(name)];
  if (isQueueDefinition(feature))
    return {
      provide: getQueueToken(feature, name),
      inject,
      useFactory: (redis: AtomicRedis) => redis.queues.get(feature),
    };
  if (!(feature as Partial<Script> | undefined)?.sha) throw wrong();
  return {
    provide: getScriptToken(feature, name),
    inject,
    useFactory: (redis: AtomicRedis) => redis.scripts.prepare(feature),
  };
}

const wrong = (): ConfigurationError =>
  new ConfigurationError(
    'AtomicRedisModule.forFeature takes an array of scripts made by defineScript and queues made by defineQueue',
  );
