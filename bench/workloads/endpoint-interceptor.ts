import {
  BadRequestException,
  ConflictException,
  Injectable,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { Redis } from 'ioredis';
import { catchError, mergeMap, of, type Observable } from 'rxjs';
import { LEASE_MS, TTL_MS } from './idempotent-scripts.js';

const RUNNING = 'running';

/**
 * The interceptor that tutorials show. It has no fingerprint, no owner and no scope; a claim whose
 * reply was lost refuses its own retry; and it keeps the handler's value, not the response.
 */
@Injectable()
export class TutorialInterceptor implements NestInterceptor {
  constructor(private readonly redis: Redis) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const request = context
      .switchToHttp()
      .getRequest<{ method: string; url: string; headers: Record<string, string | undefined> }>();
    const key = request.headers['idempotency-key'];
    if (!key) throw new BadRequestException('Idempotency-Key is missing');
    const record = `idempotency:${request.method}:${request.url}:${key}`;
    const stored = await this.redis.get(record);
    if (stored === RUNNING) throw new ConflictException('The request is in progress');
    if (stored !== null) return of(JSON.parse(stored));
    const claimed = await this.redis.set(record, RUNNING, 'PX', LEASE_MS, 'NX');
    if (!claimed) throw new ConflictException('The request is in progress');
    return next.handle().pipe(
      mergeMap(async (value: unknown) => {
        await this.redis.set(record, JSON.stringify(value), 'PX', TTL_MS);
        return value;
      }),
      catchError(async (error: unknown) => {
        await this.redis.del(record);
        throw error;
      }),
    );
  }
}
