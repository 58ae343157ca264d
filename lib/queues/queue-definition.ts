import { InvalidArgumentError } from '../atomic-redis.errors.js';
import * as check from '../atomic-redis.validation.js';
import { queueOptionChecks, type QueueOptions } from './queue.options.js';
import type { StandardSchema } from './standard-schema.js';

/**
 * Options of a queue that is defined. `Pushed` is what its schema takes in, and `Payload` what it
 * gives out. @inline
 */
export interface QueueDefinitionOptions<Payload, Pushed> extends QueueOptions {
  /**
   * Checks payloads: a push of one that does not fit throws an `InvalidPayloadError` before
   * anything is sent, and a job with such a payload goes to the dead letters when it is taken. What
   * a handler gets is the schema's output. Default: nothing is checked.
   */
  schema?: StandardSchema<Pushed, Payload>;
}

/** A queue with the type of its payloads. Made by `defineQueue`. */
export interface QueueDefinition<Payload = unknown, Pushed = Payload> {
  readonly name: string;
  readonly options: Readonly<QueueOptions> & { readonly schema?: StandardSchema<Pushed, Payload> };
}

const definitions = new WeakSet<object>();

const schemaCheck: check.Check = (path, value) => {
  // A schema may be a function, as ArkType's are.
  const standard = (value as { '~standard'?: { version?: unknown; validate?: unknown } } | null)?.[
    '~standard'
  ];
  if (standard?.version !== 1 || typeof standard.validate !== 'function')
    throw new InvalidArgumentError(path, 'a Standard Schema (https://standardschema.dev)', value);
};

const checkOptions = check.options({
  ...queueOptionChecks,
  schema: schemaCheck,
} satisfies Record<keyof QueueDefinitionOptions<unknown, unknown>, check.Check>);

/**
 * Defines a queue once, for those who push and those who take: its name, the type of its payloads
 * and its options. Does no I/O.
 *
 * ```ts
 * export const emails = defineQueue<Email>('emails');
 * export const orders = defineQueue('orders', { schema: z.object({ id: z.string() }), maxDeliveries: 3 });
 * ```
 *
 * @throws InvalidArgumentError
 */
export function defineQueue(
  name: string,
  options: QueueDefinitionOptions<Buffer, Buffer> & { format: 'bytes' },
): QueueDefinition<Buffer>;
export function defineQueue<Payload = unknown, Pushed = Payload>(
  name: string,
  options?: QueueDefinitionOptions<Payload, Pushed> & { format?: 'json' },
): QueueDefinition<Payload, Pushed>;
export function defineQueue<Payload, Pushed>(
  name: string,
  options: QueueDefinitionOptions<Payload, Pushed> = {},
): QueueDefinition<Payload, Pushed> {
  check.key('defineQueue.name', name);
  checkOptions('defineQueue.options', options);
  const definition = Object.freeze({ name, options: Object.freeze({ ...options }) });
  definitions.add(definition);
  return definition;
}

/** True for what `defineQueue` made. */
export const isQueueDefinition = (value: unknown): value is QueueDefinition =>
  typeof value === 'object' && value !== null && definitions.has(value);
