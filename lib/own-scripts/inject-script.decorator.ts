import { getScriptToken } from '../atomic-redis.constants.js';
import { injection } from '../injection.js';
import type { Script } from '../scripting/script.js';

/**
 * Injects the function that runs a script, which `AtomicRedisModule.forFeature([script], name)` of
 * the same module, or an exporting one, provides.
 *
 * ```ts
 * constructor(@InjectScript(takeToken) private readonly takeToken: ScriptFunction<typeof takeToken>) {}
 * ```
 */
export const InjectScript = (script: Script, name?: string): PropertyDecorator & ParameterDecorator =>
  injection('InjectScript', getScriptToken(script, name));
