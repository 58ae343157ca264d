import { Inject, Injectable } from '@nestjs/common';
import { MetadataScanner, ModulesContainer } from '@nestjs/core';
import { REGISTRATION_NAME } from '../atomic-redis.constants.js';
import { ConfigurationError } from '../atomic-redis.errors.js';
import { Observer } from '../observability/observer.js';
import { consumersAt, type ConsumerMetadata } from './queue-consumer.decorator.js';
import { defineQueue, type QueueDefinition } from './queue-definition.js';
import type { QueueJob } from './queue-job.js';
import type { QueueOptions } from './queue.options.js';
import { ReliableQueueService } from './reliable-queue.service.js';

/** The part of Nest's record of a provider that is read. */
interface ProviderRecord {
  readonly name: unknown;
  readonly isTransient: boolean;
  isDependencyTreeStatic(): boolean;
}

interface DeclaredConsumer {
  readonly instance: Record<string, (job: QueueJob) => unknown>;
  readonly method: string;
  readonly metadata: ConsumerMetadata;
}

/**
 * Finds the methods under `@QueueConsumer` in the whole application, those of this registration.
 */
@Injectable()
export class DeclaredConsumers {
  private found: readonly DeclaredConsumer[] = [];

  constructor(
    private readonly modules: ModulesContainer,
    private readonly queues: ReliableQueueService,
    private readonly observer: Observer,
    @Inject(REGISTRATION_NAME) private readonly registration: string,
  ) {}

  /** @throws ConfigurationError for one that no job could be given to */
  find(): void {
    const wrappers = [...this.modules.values()].flatMap(({ providers, controllers }) => [
      ...providers.values(),
      ...controllers.values(),
    ]);
    // An alias shares the instance of what it stands for.
    const seen = new Set<unknown>();
    this.found = wrappers.flatMap((wrapper) => {
      const instance: unknown = wrapper.instance;
      if (typeof instance !== 'object' || instance === null || seen.has(instance)) return [];
      seen.add(instance);
      return this.consumersOf(instance, wrapper);
    });
    for (const { metadata } of this.found)
      this.observer.declareQueue(typeof metadata.queue === 'string' ? metadata.queue : metadata.queue.name);
  }

  get count(): number {
    return this.found.length;
  }

  start(): void {
    for (const { instance, method, metadata } of this.found) {
      const { concurrency, ...options } = metadata.options;
      this.queueOf(metadata.queue, options).consume(
        (job: QueueJob) => instance[method]!(job),
        concurrency ? { concurrency } : {},
      );
    }
  }

  private queueOf(queue: string | QueueDefinition, { format, ...options }: QueueOptions) {
    if (typeof queue !== 'string')
      return this.queues.get(defineQueue(queue.name, { ...queue.options, ...options } as object));
    return format === 'bytes'
      ? this.queues.get(queue, { ...options, format })
      : this.queues.get(queue, options);
  }

  private consumersOf(instance: object, wrapper: ProviderRecord): DeclaredConsumer[] {
    const prototype = Object.getPrototypeOf(instance) as Record<string, unknown> | null;
    return new MetadataScanner().getAllMethodNames(prototype).flatMap((method) =>
      consumersAt(prototype?.[method])
        .filter(({ registration }) => registration === this.registration)
        .map((metadata) => {
          if (!wrapper.isDependencyTreeStatic() || wrapper.isTransient)
            throw new ConfigurationError(
              `${String(wrapper.name)}.${method} has @QueueConsumer(), but there is no one instance to give jobs to: the class must have the ` +
                `default scope, and so must what it injects`,
            );
          return { instance: instance as DeclaredConsumer['instance'], method, metadata };
        }),
    );
  }
}
