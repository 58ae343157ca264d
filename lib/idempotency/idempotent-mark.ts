import { ConfigurationError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import type { AroundRoute } from '../problem-details/route-edge.js';
import type { MethodSite } from '../method-wrapping/method-site.js';
import type { IdempotencyHeaders } from './http/idempotency-headers.js';
import type { IdempotencyDefaults } from './idempotency.options.js';

const MARK = Symbol('nestjs-atomic-redis:idempotent');

/** As `@Idempotent` takes it: the name, or what makes it of the instance. */
export type OperationOption = string | ((instance: never) => string);

/**
 * The note that `@Idempotent` leaves on its method, for the check at boot and for descriptions of
 * the route.
 */
export interface IdempotentMark {
  readonly registration: string;
  readonly operation: OperationOption | undefined;
  /** True if the key comes from the arguments. */
  readonly hasKey: boolean;
  readonly site: MethodSite;
  /** The prototypes of the controllers in which it is an HTTP route; found out at boot. */
  readonly routes: WeakSet<object>;
  /** Stands around the method where Nest calls it as a handler. */
  readonly interceptor: object & { readonly aroundRoute: AroundRoute };
  /** Headers for a description of the route; undefined means the module's default. */
  readonly headers: IdempotencyHeaders | undefined;
  readonly required: boolean | undefined;
  readonly onDuplicate: IdempotencyDefaults['onDuplicate'];
  readonly onUnavailable: IdempotencyDefaults['onUnavailable'];
}

export const markIdempotent = (method: object, mark: IdempotentMark): void =>
  Reflect.defineMetadata(MARK, mark, method);

export const idempotentMarkOf = (method: object): IdempotentMark | undefined =>
  Reflect.getMetadata(MARK, method) as IdempotentMark | undefined;

const classNameOf = (type: object): string => (type as { name?: string }).name ?? '';

/** `OrdersService.create`, by the class of the instance. For messages only. */
export const labelOf = (type: object, { owner, className, methodName }: MethodSite): string =>
  `${type === owner ? className : classNameOf(type) || className}.${methodName}`;

/** Returns the text that the decorator lacks, to be copied: `operation: 'orders.ship'`. */
export function operationToAdd(type: object, site: MethodSite): string {
  const [className, methodName] = labelOf(type, site).split('.') as [string, string];
  const short = className.replace(
    /(?<=.)(Service|Provider|Controller|Handler|Resolver|Gateway|Consumer|Processor)$/,
    '',
  );
  return `operation: '${short.charAt(0).toLowerCase()}${short.slice(1)}.${methodName}'`;
}

export const operationMissing = (type: object, site: MethodSite): ConfigurationError =>
  new ConfigurationError(
    `${labelOf(type, site)} is not an HTTP route of a controller, so its operation needs a name that stays when classes are renamed or minified. ` +
      `Add it to the decorator: @Idempotent({ ${operationToAdd(type, site)}, … })`,
  );

/**
 * Returns the name that a callback gives an instance.
 * @throws InvalidArgumentError for anything but a name
 */
export function ownNameOf(operation: (instance: never) => string, instance: object): string {
  const name: unknown = operation(instance as never);
  check.nonEmptyString('@Idempotent.operation()', name);
  return name as string;
}
