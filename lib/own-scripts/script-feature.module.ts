import { Inject, Module, type DynamicModule } from '@nestjs/common';
import { getAtomicRedisToken, getScriptToken } from '../atomic-redis.constants.js';
import { ConfigurationError } from '../atomic-redis.errors.js';
import type { AtomicRedis } from '../atomic-redis.js';
import type { Script } from '../scripting/script.js';

/** The injectable functions of one `AtomicRedisModule.forFeature`. */
@Module({})
export class ScriptFeatureModule {
  static of(scripts: readonly Script[], name: string | undefined): DynamicModule {
    if (!Array.isArray(scripts) || scripts.some((script: Partial<Script> | undefined) => !script?.sha))
      throw new ConfigurationError(
        'AtomicRedisModule.forFeature takes an array of scripts made by defineScript',
      );
    const providers = scripts.map((script: Script) => ({
      provide: getScriptToken(script, name),
      inject: [getAtomicRedisToken(name)],
      useFactory: (redis: AtomicRedis) => redis.scripts.prepare(script),
    }));
    return { module: ScriptFeatureModule, providers, exports: providers };
  }
}

/**
 * Injects the function that runs a script. `AtomicRedisModule.forFeature([script], name)` provides
 * it, in the same module or in one that exports it.
 *
 * ```ts
 * constructor(@InjectScript(takeToken) private readonly takeToken: ScriptFunction<typeof takeToken>) {}
 * ```
 */
export const InjectScript = (script: Script, name?: string): PropertyDecorator & ParameterDecorator =>
  Inject(getScriptToken(script, name));
