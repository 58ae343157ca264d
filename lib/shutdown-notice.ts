import { isMainThread } from 'node:worker_threads';
import { Logger } from '@nestjs/common';
import type { HttpAdapterHost, ModulesContainer } from '@nestjs/core';
import { methodsOfControllers } from './problem-details/route-edge.js';
import type { DeclaredConsumers } from './queues/declared-consumers.js';

/** Applications call `enableShutdownHooks` before they listen, or soon after. */
const PATIENCE_MS = 1_000;

const PATTERN = 'microservices:pattern';

/** Variables of platforms that end a function's process in a way of their own. */
const SERVERLESS = ['AWS_LAMBDA_FUNCTION_NAME', 'FUNCTIONS_WORKER_RUNTIME', 'VERCEL', 'NETLIFY'];

/**
 * Warns, once for an application, when SIGTERM would end the process at once: nothing listens to
 * it, so Nest calls no shutdown hook. Says nothing in tests, worker threads and serverless
 * functions, nor of an application that neither listens nor takes messages, such as a script.
 */
export class ShutdownNotice {
  private readonly logger = new Logger('AtomicRedisModule');
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly modules: ModulesContainer,
    private readonly adapterHost: HttpAdapterHost,
    private readonly consumers: DeclaredConsumers,
  ) {}

  begin(): void {
    const { env } = process;
    if (!isMainThread || env['NODE_ENV'] === 'test' || SERVERLESS.some((name) => env[name])) return;
    this.timer = setTimeout(() => this.look(), PATIENCE_MS).unref();
  }

  end(): void {
    clearTimeout(this.timer);
  }

  private look(): void {
    if (process.listenerCount('SIGTERM') > 0 || !this.isServing()) return;
    this.logger.warn(
      'No handler listens to SIGTERM, so a deployment breaks off the calls under way, and their idempotency keys and jobs stay taken until their leases end. Call app.enableShutdownHooks() before app.listen()',
    );
  }

  private isServing(): boolean {
    const server = (
      this.adapterHost.httpAdapter as HttpAdapterHost['httpAdapter'] | null
    )?.getHttpServer() as { listening?: unknown } | null | undefined;
    return server?.listening === true || this.consumers.count > 0 || this.takesMessages();
  }

  private takesMessages(): boolean {
    return methodsOfControllers(this.modules).some(({ method }) => Reflect.hasMetadata(PATTERN, method));
  }
}
