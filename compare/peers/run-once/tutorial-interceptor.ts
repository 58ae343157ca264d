import {
  ConflictException,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { Redis } from 'ioredis';
import { catchError, from, lastValueFrom, mergeMap, of, type Observable } from 'rxjs';
import { LEASE_MS, type Place, type RunOnce } from '../../tool.js';

const RESULT_S = 86_400;

/**
 * As tutorials have it: SET NX claims the key, the response replaces the claim, a failure frees it.
 */
class IdempotencyInterceptor implements NestInterceptor {
  constructor(private readonly redis: Redis) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const request = context.switchToHttp().getRequest<{ headers: Record<string, string | undefined> }>();
    const idempotencyKey = request.headers['idempotency-key'];
    if (!idempotencyKey) return next.handle();
    const key = `idempotency:${idempotencyKey}`;

    const claimed = await this.redis.set(key, 'in-progress', 'PX', LEASE_MS, 'NX');
    if (claimed === null) {
      const stored = await this.redis.get(key);
      if (stored === null || stored === 'in-progress')
        throw new ConflictException('A request with this key is in progress');
      return of(JSON.parse(stored));
    }

    return next.handle().pipe(
      mergeMap(async (response: unknown) => {
        await this.redis.set(key, JSON.stringify(response), 'EX', RESULT_S);
        return response;
      }),
      catchError((error: unknown) =>
        from(this.redis.del(key)).pipe(
          mergeMap(() => {
            throw error;
          }),
        ),
      ),
    );
  }
}

/** The route, without HTTP. */
export async function start({ url }: Place): Promise<RunOnce> {
  const redis = new Redis(url);
  redis.on('error', () => {});
  const interceptor = new IdempotencyInterceptor(redis);
  return {
    async run(key, effect) {
      const request = { headers: { 'idempotency-key': key } };
      const context = { switchToHttp: () => ({ getRequest: () => request }) } as unknown as ExecutionContext;
      const response = await interceptor.intercept(context, { handle: () => from(effect.make()) });
      return (await lastValueFrom(response)) as string;
    },
    close: async () => redis.disconnect(),
  };
}

export const notApplied = (error: unknown): boolean => error instanceof ConflictException;
