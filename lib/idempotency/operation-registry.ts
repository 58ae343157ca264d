import { ConfigurationError, describe } from '../atomic-redis.errors.js';
import type { MethodSite } from '../method-wrapping/method-site.js';
import { labelOf, type OperationOption } from './idempotent-mark.js';

/**
 * The method that an operation stands for. The class counts by its prototype: two classes may bear
 * one name.
 */
export interface OperationOwner {
  readonly prototype: object;
  readonly site: MethodSite;
  /** The operations by instance, if each instance has its own. */
  readonly instance?: object;
}

const label = ({ prototype, site }: OperationOwner): string => labelOf(prototype.constructor, site);

/**
 * Maps each operation of a registration to its method. Two methods with one operation would answer
 * each other's calls, so the second is refused: at boot, or at its first call if Nest creates its
 * class later.
 *
 * It holds what is written in the code and no more: names that a callback makes for each request do
 * not come here.
 */
export class OperationRegistry {
  private readonly owners = new Map<string, OperationOwner>();
  private readonly routes = new Map<string, string>();
  /** The operation of each decorated method, by prototype and method. */
  private readonly names = new WeakMap<object, Map<string, OperationOption>>();

  /**
   * @throws ConfigurationError when another method has the operation, or the same one of another
   * instance
   */
  claim(operation: string, owner: OperationOwner): void {
    const known = this.owners.get(operation);
    if (!known) this.owners.set(operation, owner);
    else if (known.instance !== owner.instance && isSameMethod(known, owner)) {
      throw new ConfigurationError(
        `Two instances of one class are both the idempotent operation ${describe(operation)} by ${label(owner)}, and would answer each other's calls. ` +
          `Have the callback name each: @Idempotent({ operation: (self) => … })`,
      );
    } else this.refuseTaken(operation, owner);
  }

  /** @throws ConfigurationError when another method has the operation */
  refuseTaken(operation: string, owner: OperationOwner): void {
    const known = this.owners.get(operation);
    if (!known || isSameMethod(known, owner)) return;
    throw new ConfigurationError(
      `${label(owner)} and ${label(known)}${label(known) === label(owner) ? ' of another class of that name' : ''} are both the idempotent ` +
        `operation ${describe(operation)} and would answer each other's calls. Give one of them a name of its own: ` +
        `@Idempotent({ operation: '…' }); classes that inherit the method have one each by @Idempotent({ operation: (self) => … })`,
    );
  }

  /**
   * Keeps what names a method. A method that overrides another one gives it its name, so that
   * `super.ship()` is the same operation.
   */
  name({ prototype, site }: OperationOwner, operation: OperationOption): void {
    let names = this.names.get(prototype);
    if (!names) this.names.set(prototype, (names = new Map()));
    names.set(site.methodName, operation);
  }

  /**
   * Keeps which operation a route is, by its method and path pattern as `routeOperation` makes
   * them.
   */
  addRoute(route: string, operation: string): void {
    this.routes.set(route, operation);
  }

  /**
   * The operations of the routes that answer at a path: those whose pattern says most of it. A
   * global prefix and a version may stand in front.
   */
  atPath(method: string, path: string): readonly string[] {
    const asked = segmentsOf(path.split('?')[0]!);
    let longest = 0;
    let found = new Set<string>();
    for (const [route, operation] of this.routes) {
      const [verb, pattern = ''] = route.split(' ');
      const segments = segmentsOf(pattern);
      if (verb !== method.toUpperCase() && verb !== 'ALL') continue;
      if (segments.length < longest || !endsWith(asked, segments)) continue;
      if (segments.length > longest) found = new Set();
      longest = segments.length;
      found.add(operation);
    }
    return [...found];
  }

  nameOf(prototype: object, methodName: string): OperationOption | undefined {
    return this.names.get(prototype)?.get(methodName);
  }
}

const isSameMethod = (one: OperationOwner, other: OperationOwner): boolean =>
  one.prototype === other.prototype && one.site.methodName === other.site.methodName;

const segmentsOf = (path: string): string[] => path.split('/').filter((segment) => segment !== '');

const endsWith = (path: readonly string[], pattern: readonly string[]): boolean =>
  path.length >= pattern.length &&
  pattern.every((segment, i) => {
    const asked = path[path.length - pattern.length + i]!;
    return segment.startsWith(':') || segment.startsWith('{') || segment.startsWith('*') || segment === asked;
  });
