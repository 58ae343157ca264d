import { Inject, type InjectionToken } from '@nestjs/common';
import { ConfigurationError } from './atomic-redis.errors.js';

/**
 * Makes the decorator `name`, which injects `token` into a constructor's parameter or a property.
 *
 * Before a method's parameter it throws ConfigurationError: Nest would leave that undefined, and
 * say nothing.
 */
export function injection(name: string, token: InjectionToken): PropertyDecorator & ParameterDecorator {
  const inject = Inject(token);
  return (target: object, key: string | symbol | undefined, index?: unknown) => {
    if (key !== undefined && typeof index === 'number') {
      throw new ConfigurationError(
        `@${name}() stands before a parameter of ${target.constructor.name}.${String(key)}(), where Nest injects nothing: ` +
          `write it before a parameter of the constructor, or before a property`,
      );
    }
    inject(target, key, index as number);
  };
}
