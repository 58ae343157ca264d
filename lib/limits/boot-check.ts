import { MetadataScanner, type ModulesContainer } from '@nestjs/core';
import { ConfigurationError } from '../atomic-redis.errors.js';
import { modulePathOf, routeOperation } from '../http/route-operation.js';
import { siteNameOf } from '../method-wrapping/method-site.js';
import { isEntry, isMessageHandler, rateLimitMarkOf, takesAtEntry } from './rate-limit-mark.js';

/**
 * Looks at every method with `@RateLimit` before the application starts, and names the operation of
 * each route.
 *
 * @throws ConfigurationError for a method that has no request and lacks `key`, or that messages
 * reach past the phase `guard`
 */
export function checkRateLimits(modules: ModulesContainer, registration: string): void {
  const scanner = new MetadataScanner();
  for (const { controllers, providers, metatype: module } of modules.values()) {
    for (const wrapper of [...controllers.values(), ...providers.values()]) {
      if (wrapper.isAlias) continue;
      const type: unknown = wrapper.isNotMetatype
        ? (wrapper.instance as object | undefined)?.constructor
        : wrapper.metatype;
      const prototype: unknown = typeof type === 'function' ? type.prototype : undefined;
      if (typeof prototype !== 'object' || prototype === null) continue;
      for (const name of scanner.getAllMethodNames(prototype)) {
        const method = (prototype as Record<string, object>)[name]!;
        const mark = rateLimitMarkOf(method);
        if (mark?.registration !== registration) continue;
        mark.isEntry = isEntry(method);
        if (!mark.hasKey && !mark.isEntry)
          throw new ConfigurationError(
            `${siteNameOf(mark.site)} is no HTTP route, query, mutation or subscription, so @RateLimit() has no request to tell callers apart by: @RateLimit({ key: (…) => …, … })`,
          );
        if (takesAtEntry(mark, method) && isMessageHandler(method))
          throw new ConfigurationError(
            `${siteNameOf(mark.site)} is a message handler too, and messages have no request that @RateLimit() could limit in the phase 'guard': @RateLimit({ phase: 'method', key: …, … }), or a method for each`,
          );
        const operation = routeOperation(type as object, method, modulePathOf(modules, module));
        if (operation !== undefined) mark.operations.set(prototype, operation);
      }
    }
  }
}
