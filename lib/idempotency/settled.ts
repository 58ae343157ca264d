import { isObservable, lastValueFrom, type Observable } from 'rxjs';

/**
 * The value that work comes to: of an Observable the last one. Lazy work, an Observable or a
 * thenable, begins here, so that it is part of the run.
 */
export function settled<T>(value: Promise<T> | Observable<T> | T): Promise<T> | T {
  if (isObservable(value)) return lastValueFrom(value, { defaultValue: undefined }) as Promise<T>;
  return typeof (value as Partial<Promise<T>> | null)?.then === 'function'
    ? resolved(value as Promise<T>)
    : value;
}

const resolved = async <T>(value: Promise<T | Observable<T>>): Promise<T> => await settled(await value);
