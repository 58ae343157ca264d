import { ServerKafka } from '@nestjs/microservices';

type EachMessage = (payload: object) => Promise<void>;

/**
 * Nest's own server on a client that keeps to KafkaJS's contract: a message is committed when
 * `eachMessage` resolves, and comes again when it rejects.
 */
export class FakeKafka {
  readonly server: ServerKafka;
  readonly replies: object[] = [];
  private eachMessage: EachMessage = () => Promise.reject(new Error('not running'));

  constructor() {
    const client = {
      events: {},
      on: () => undefined,
      connect: async () => undefined,
      disconnect: async () => undefined,
      subscribe: async () => undefined,
      send: async (record: object) => this.replies.push(record),
      run: async ({ eachMessage }: { eachMessage: EachMessage }) => {
        this.eachMessage = eachMessage;
      },
    };
    class Server extends ServerKafka {
      override createClient<T>(): T {
        return { consumer: () => client, producer: () => client } as T;
      }
    }
    this.server = new Server({ client: { brokers: ['none'] } });
  }

  /** Resolves when the message is committed. */
  deliver(topic: string, value: object, headers: object = {}): Promise<void> {
    return this.eachMessage({
      topic,
      partition: 0,
      heartbeat: async () => undefined,
      message: { key: null, headers, value: Buffer.from(JSON.stringify(value)) },
    });
  }
}
