import { jsonCodec, type ResultCodec } from '../result-codec.js';
import { protobufCodec } from './protobuf-codec.js';

/**
 * Metadata keys, on the method, of decorators whose methods have no caller that waits. Each is a
 * name that its package keeps.
 */
const UNAWAITED_METHODS: ReadonlySet<string> = new Set([
  'SCHEDULER_TYPE', // @nestjs/schedule: @Cron, @Interval, @Timeout
  'EVENT_LISTENER_METADATA', // @nestjs/event-emitter: @OnEvent
  'bull:queue_process', // @nestjs/bull: @Process
  'bullmq:worker_events_metadata', // @nestjs/bullmq: @OnWorkerEvent
  'bullmq:queue_events_metadata', // @nestjs/bullmq: @OnQueueEvent
  'nestjs-atomic-redis:queue-consumer', // @QueueConsumer
  'SQS_CONSUMER_METHOD', // @ssut/nestjs-sqs: @SqsMessageHandler
]);

/** Metadata on the class, and the method that it makes a handler. */
const UNAWAITED_CLASSES: readonly (readonly [metadata: string, methodName: string])[] = [
  ['bullmq:processor_metadata', 'process'], // @nestjs/bullmq: @Processor
  ['__eventsHandler__', 'handle'], // @nestjs/cqrs: @EventsHandler
];

const HANDLER_TYPE = 'microservices:handler_type';
const EVENT = 2;
const TRANSPORT = 'microservices:transport';
const GRPC = 4;
const RABBIT_HANDLER = 'RABBIT_HANDLER';

/** The kind of a method, as the decorators beside `@Idempotent` tell it. */
export class HandlerKind {
  /** True if no caller takes the returned value. */
  readonly isUnawaited: boolean;
  /** True if @golevelup/nestjs-rabbitmq delivers to it. */
  readonly isGolevelup: boolean;
  private readonly isGrpc: boolean;
  /** True if the method acknowledges its messages by hand, as far as its runs have shown. */
  acknowledges: boolean | undefined;

  constructor(type: { readonly prototype?: unknown }, methodName: string) {
    const method = (type.prototype as Record<string, unknown> | undefined)?.[methodName];
    const onMethod = typeof method === 'function' ? metadataOf(method) : new Map<string, unknown>();
    const rabbit = onMethod.get(RABBIT_HANDLER) as { type?: unknown } | undefined;
    this.isGolevelup = rabbit !== undefined;
    this.isUnawaited =
      onMethod.get(HANDLER_TYPE) === EVENT ||
      rabbit?.type === 'subscribe' ||
      [...onMethod.keys()].some((name) => UNAWAITED_METHODS.has(name)) ||
      UNAWAITED_CLASSES.some(([name, handler]) => handler === methodName && Reflect.hasMetadata(name, type));
    this.isGrpc = onMethod.get(TRANSPORT) === GRPC;
  }

  /** The application's own codec, or one that carries what the transport does. */
  codec(own: ResultCodec | undefined, ofModule: ResultCodec): ResultCodec | undefined {
    return own ?? (this.isGrpc && ofModule === jsonCodec ? protobufCodec : undefined);
  }
}

/** By name: the description of a symbol, which a package may have made for itself. */
export function metadataOf(method: object): Map<string, unknown> {
  const keys = Reflect.getMetadataKeys(method) as unknown[];
  return new Map(
    keys.map((key) => [
      typeof key === 'symbol' ? (key.description ?? '') : String(key),
      Reflect.getMetadata(key, method) as unknown,
    ]),
  );
}

/**
 * The kinds of one decorated method, by the class of the instance: several classes may inherit it.
 */
export class HandlerKinds {
  private readonly kinds = new WeakMap<object, HandlerKind>();

  constructor(private readonly methodName: string) {}

  of(instance: object): HandlerKind {
    const type = instance.constructor;
    let kind = this.kinds.get(type);
    if (!kind) this.kinds.set(type, (kind = new HandlerKind(type, this.methodName)));
    return kind;
  }
}
