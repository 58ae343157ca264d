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

const scriptTokens = new WeakMap<Script, Map<string, symbol>>();

/** The injection token of the function that runs a script of `AtomicRedisModule.forFeature`. */
export function getScriptToken(script: Script, name: string = DEFAULT_REGISTRATION): symbol {
  const tokens = scriptTokens.get(script) ?? new Map<string, symbol>();
  scriptTokens.set(script, tokens);
  const token = tokens.get(name) ?? Symbol(`nestjs-atomic-redis:${name}:script:${script.name}`);
  tokens.set(name, token);
  return token;
}
