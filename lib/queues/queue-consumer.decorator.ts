import 'reflect-metadata';
import { DEFAULT_REGISTRATION } from '../atomic-redis.constants.js';
import * as check from '../atomic-redis.validation.js';
import { decoratedMethod, injectRegistration } from '../method-wrapping/wrap-method.js';
import type { QueueJob } from './queue-job.js';
import { queueOptionChecks, type QueueOptions } from './queue.options.js';
import { consumeOptionChecks, type ConsumeOptions } from './reliable-queue.js';

export interface QueueConsumerOptions extends QueueOptions, ConsumeOptions {
  /** The registration to use. Default: the unnamed one. */
  name?: string;
}

/** What `@QueueConsumer` notes on a method. */
export interface ConsumerMetadata {
  readonly queue: string;
  readonly registration: string;
  readonly options: QueueOptions & ConsumeOptions;
}

const CONSUMER = Symbol('nestjs-atomic-redis:queue-consumer');

const checkOptions = check.options({
  ...queueOptionChecks,
  ...consumeOptionChecks,
  name: check.nonEmptyString,
} satisfies Record<keyof QueueConsumerOptions, check.Check>);

/** Goes on methods whose one parameter is a job; any other does not compile. */
type ConsumerDecorator = <Method extends (job: QueueJob<never>) => unknown>(
  target: object,
  key: string | symbol,
  descriptor: TypedPropertyDescriptor<Method>,
) => void;

/**
 * Runs the method for every job of the queue, by `ReliableQueue.consume`, from the application's bootstrap to its shutdown: a job is acknowledged
 * when the method settles, and retried when it throws. The class is a provider or controller of the default scope.
 *
 * A job may be delivered again when its process dies before it is acknowledged: `@Idempotent({ key: (job: QueueJob<Email>) => job.id })` beside it makes
 * its effects happen once, as far as that can be had.
 *
 * ```ts
 * @QueueConsumer('emails', { concurrency: 4, maxDeliveries: 5 })
 * async send(job: QueueJob<Email>) { await this.mailer.send(job.payload); }
 * ```
 *
 * @throws InvalidArgumentError at once for a wrong option; ConfigurationError on anything but a method, and at boot on a request-scoped class
 */
export function QueueConsumer(queue: string, options: QueueConsumerOptions = {}): ConsumerDecorator {
  check.key('@QueueConsumer.queue', queue);
  checkOptions('@QueueConsumer', options);
  const { name = DEFAULT_REGISTRATION, ...rest } = options;
  return (target, key, descriptor) => {
    const { method } = decoratedMethod('QueueConsumer', target, key, descriptor);
    injectRegistration(target, name);
    const known = consumersAt(method);
    Reflect.defineMetadata(CONSUMER, [...known, { queue, registration: name, options: rest }], method);
  };
}

/** What stands on a method: more than one when it serves several queues. */
export function consumersAt(method: unknown): readonly ConsumerMetadata[] {
  if (typeof method !== 'function') return [];
  return (Reflect.getOwnMetadata(CONSUMER, method) as ConsumerMetadata[] | undefined) ?? [];
}
