/** The decorators that wrap a method. */
export type AtomicDecorator = 'Idempotent' | 'WithPermit' | 'AtomicCounter' | 'OptimisticRetry';

/** One call of a decorated method. */
export interface MethodCall {
  readonly instance: object;
  readonly args: unknown[];
  /** Runs the method, or the next wrapper below the decorator. Passes its errors on untouched. */
  proceed(): unknown;
}

/** The place of a decorator, for messages and for naming operations: `OrdersService.create`. */
export interface MethodSite<Decorator extends string = AtomicDecorator> {
  readonly decorator: Decorator;
  readonly className: string;
  /**
   * The class that the decorator stands in. Its own name may be changed later, as Nest's `mixin`
   * does.
   */
  readonly owner: object;
  readonly methodName: string;
}

export const siteNameOf = (site: MethodSite<string>): string => `${site.className}.${site.methodName}`;

export function siteOf<Decorator extends string>(
  decorator: Decorator,
  target: object,
  key: string | symbol,
): MethodSite<Decorator> {
  const owner = typeof target === 'function' ? target : target.constructor;
  return { decorator, owner, className: owner.name || 'an anonymous class', methodName: String(key) };
}
