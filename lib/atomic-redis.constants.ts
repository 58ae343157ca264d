import type { Script } from './scripting/script.js';

/** The options as given to `forRoot` or `forRootAsync`. */
export const GIVEN_OPTIONS = Symbol('nestjs-atomic-redis:given-options');

/** The options after checks and defaults. */
export const OPTIONS = Symbol('nestjs-atomic-redis:options');

/** Every scripted operation of the library, for the runner. */
export const OPERATIONS = Symbol('nestjs-atomic-redis:operations');

/** The name of the registration a provider belongs to. */
export const REGISTRATION_NAME = Symbol('nestjs-atomic-redis:registration-name');

export const DEFAULT_REGISTRATION = 'default';

/** The injection token of a registration's `AtomicRedis` façade. */
export function getAtomicRedisToken(name: string = DEFAULT_REGISTRATION): symbol {
  return Symbol.for(
    `nestjs-atomic-redis:${name}: import AtomicRedisModule.forRoot(…), in a unit test AtomicRedisTestingModule`,
  );
}

/** The injection token of a registration's current `Transaction`. */
export function getTransactionToken(name: string = DEFAULT_REGISTRATION): symbol {
  return Symbol.for(`nestjs-atomic-redis:${name}:transaction`);
}

/** The injection token of a registration's current `IdempotentRun`. */
export function getRunToken(name: string = DEFAULT_REGISTRATION): symbol {
  return Symbol.for(`nestjs-atomic-redis:${name}:run`);
}

const featureTokens = new WeakMap<object, Map<string, symbol>>();

/** The injection token of the function that runs a script of `AtomicRedisModule.forFeature`. */
export function getScriptToken(script: Script, name: string = DEFAULT_REGISTRATION): symbol {
  return tokenOf(script, name, `script:${script.name}`);
}

/** The injection token of a queue of `AtomicRedisModule.forFeature`. */
export function getQueueToken(
  definition: { readonly name: string },
  name: string = DEFAULT_REGISTRATION,
): symbol {
  return tokenOf(definition, name, `queue:${definition.name}`);
}

function tokenOf(feature: object, name: string, kind: string): symbol {
  const tokens = featureTokens.get(feature) ?? new Map<string, symbol>();
  featureTokens.set(feature, tokens);
  const token = tokens.get(name) ?? Symbol(`nestjs-atomic-redis:${name}:${kind}`);
  tokens.set(name, token);
  return token;
}
