import type { OperationType } from './event-types.js';
import type { Observer } from './observer.js';

/** Of an operation that only reads. */
export const READ = { changed: (): boolean => false } as const;

/**
 * Reports each call of a service's method as one operation, through the service's `observer`. For methods whose arguments do not name it.
 *
 * @param options.changed whether a call that resolved changed anything. Default: it did.
 */
export function Observed<Result = unknown>(
  type: OperationType,
  options: { readonly changed?: (result: Result) => boolean } = {},
) {
  return <Method extends (...args: never[]) => Promise<Result>>(
    _target: object,
    _key: string,
    descriptor: TypedPropertyDescriptor<Method>,
  ): void => {
    const method = descriptor.value as unknown as (...args: unknown[]) => Promise<Result>;
    descriptor.value = function (this: { readonly observer: Observer }, ...args: unknown[]): Promise<Result> {
      const { observer } = this;
      return observer.isWatching
        ? observer.operation(type, () => method.apply(this, args), {
            changed: (result) => options.changed?.(result) !== false,
          })
        : method.apply(this, args);
    } as unknown as Method;
  };
}
