import 'reflect-metadata';
import { DEFAULT_REGISTRATION } from '../atomic-redis.constants.js';
import * as check from '../atomic-redis.validation.js';
import { decoratedMethod, injectRegistration } from '../method-wrapping/wrap-method.js';
import { isQueueDefinition, type QueueDefinition } from './queue-definition.js';
import type { QueueJob } from './queue-job.js';
import { queueOptionChecks, type QueueOptions } from './queue.options.js';
import { consumeOptionChecks, type ConsumeOptions } from './reliable-queue.js';

export interface QueueConsumerOptions extends QueueOptions, ConsumeOptions {
  /** The registration to use. Default: the unnamed one. */
  name?: string;
}

/** The note of `@QueueConsumer` on a method. */
export interface ConsumerMetadata {
  readonly queue: string | QueueDefinition;
  readonly registration: string;
  readonly options: QueueOptions & ConsumeOptions;
}

const CONSUMER = Symbol('nestjs-atomic-redis:queue-consumer');

const checkConsumerOptions = check.options({
  ...queueOptionChecks,
  ...consumeOptionChecks,
  name: check.nonEmptyString,
} satisfies Record<keyof QueueConsumerOptions, check.Check>);

/**
 * Belongs on methods whose one parameter is a job, of the queue's payloads where these are defined;
 * any other does not compile.
 */
type ConsumerDecorator<Payload> = <Method extends (job: QueueJob<Payload>) => unknown>(
  target: object,
  key: string | symbol,
  descriptor: TypedPropertyDescriptor<Method> &
    // Types of a generic class cannot be compared by a condition: only those that are defined are.
    ([Payload] extends [never] ? unknown : TakesJob<Parameters<Method>, Payload>),
) => void;

/**
 * Parameters of methods are compared in both directions, so that a method which wants more than the
 * queue has would fit.
 */
type TakesJob<Given extends unknown[], Payload> = Given extends []
  ? unknown
  : [QueueJob<Payload>] extends Given
    ? unknown
    : { 'the queue of the decorator has other payloads than the method takes': Payload };

/**
 * Runs the method for every job of the queue, by `ReliableQueue.consume`, from the application's
 * bootstrap to its shutdown: a job is acknowledged when the method settles, and retried when it
 * throws. The class is a provider or controller of the default scope.
 *
 * A job may be delivered again when its process dies before it is acknowledged: `@Idempotent({ key:
 * (job: QueueJob<Email>) => job.id })` beside it makes its effects happen once, as far as that can
 * be had.
 *
 * ```ts
 * @QueueConsumer('emails', { concurrency: 4, maxDeliveries: 5 })
 * async send(job: QueueJob<Email>) { await this.mailer.send(job.payload); }
 * ```
 *
 * A queue of `defineQueue` checks the method's parameter as well: `@QueueConsumer(emails)`.
 *
 * @throws InvalidArgumentError at once for a wrong option; ConfigurationError on anything but a
 * method, and at boot on a request-scoped class
 */
export function QueueConsumer<Payload = never>(
  queue: string | QueueDefinition<Payload, unknown>,
  options: QueueConsumerOptions = {},
): ConsumerDecorator<Payload> {
  if (!isQueueDefinition(queue)) check.key('@QueueConsumer.queue', queue);
  checkConsumerOptions('@QueueConsumer', options);
  const { name = DEFAULT_REGISTRATION, ...rest } = options;
  return (target, key, descriptor) => {
    const { method } = decoratedMethod('QueueConsumer', target, key, descriptor);
    injectRegistration(target, name);
    const known = consumersAt(method);
    Reflect.defineMetadata(CONSUMER, [...known, { queue, registration: name, options: rest }], method);
  };
}

/** The notes on a method: more than one when it serves several queues. */
export function consumersAt(method: unknown): readonly ConsumerMetadata[] {
  if (typeof method !== 'function') return [];
  return (Reflect.getOwnMetadata(CONSUMER, method) as ConsumerMetadata[] | undefined) ?? [];
}
