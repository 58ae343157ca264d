import type { Redis } from 'ioredis';
import { Deadline } from './deadline.js';
import type { DurabilityOptions } from './durability.js';

/** The longest single WAIT, in milliseconds: a connection that is silent for longer is taken for dead. */
const WAIT_STEP_MS = 500;

/** What a command was answered, and how many replicas then have what its server holds. */
export interface Acknowledged {
  readonly reply: unknown;
  /** -1 when that could not be asked, or the server itself does not have it on disk in time. */
  readonly replicas: number;
  readonly cause?: unknown;
}

interface Queued {
  readonly send: (client: Redis) => Promise<unknown>;
  readonly until: Deadline;
  readonly resolve: (answer: Acknowledged) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Sends commands that are to be replicated, on a connection of their own to one server, and WAITs behind them there: WAIT answers for what its own connection has
 * seen, so on any other it would prove nothing. Commands that arrive while one WAIT blocks the connection share the next.
 */
export class DurableChannel {
  private readonly queued: Queued[] = [];
  private client: Redis | undefined;
  private running = false;

  constructor(
    private readonly open: (deadline: Deadline) => Promise<Redis>,
    private readonly durability: DurabilityOptions,
  ) {}

  /**
   * @param until how long replicas are waited for
   * @throws what `send` rejects with, and RedisUnavailableError when there is no connection in time
   */
  send(send: Queued['send'], until: Deadline): Promise<Acknowledged> {
    return new Promise((resolve, reject) => {
      this.queued.push({ send, until, resolve, reject });
      if (!this.running) void this.run();
    });
  }

  close(): void {
    this.client?.disconnect();
  }

  /** Never rejects: errors go to those who sent. */
  private async run(): Promise<void> {
    this.running = true;
    while (this.queued.length > 0) {
      const until = Deadline.latest(this.queued.map((command) => command.until));
      try {
        if (this.client?.status !== 'ready') this.client = await this.open(until);
      } catch (error) {
        for (const { reject } of this.queued.splice(0)) reject(error);
        continue;
      }
      // What arrived while it was opened comes along.
      await this.sendBatch(this.client, this.queued.splice(0));
    }
    this.running = false;
  }

  private async sendBatch(client: Redis, batch: readonly Queued[]): Promise<void> {
    const until = Deadline.latest(batch.map((command) => command.until));
    const replies = batch.map(({ send }) => send(client));
    // In the same write as the commands.
    const waits = replicasOf(client, this.durability, until);
    const settled = await Promise.allSettled(replies);
    const acknowledged = await waits;
    batch.forEach(({ resolve, reject }, i) => {
      const reply = settled[i]!;
      if (reply.status === 'fulfilled') resolve({ reply: reply.value, ...acknowledged });
      else reject(reply.reason);
    });
  }
}

/** Waits on a connection until enough replicas have what it was answered last, or the time is over. */
export async function replicasOf(
  client: Redis,
  durability: DurabilityOptions,
  until: Deadline,
): Promise<Omit<Acknowledged, 'reply'>> {
  for (;;) {
    try {
      const replicas = await wait(client, durability, until);
      if (replicas >= durability.replicas || until.passed) return { replicas };
    } catch (cause) {
      return { replicas: -1, cause };
    }
  }
}

async function wait(client: Redis, { replicas, fsync }: DurabilityOptions, until: Deadline): Promise<number> {
  // 0 would be for ever.
  const ms = Math.max(1, Math.min(WAIT_STEP_MS, Math.ceil(until.remainingMs)));
  if (!fsync) return await client.wait(replicas, ms);
  const [local, remote] = (await client.call('WAITAOF', 1, replicas, ms)) as [number, number];
  return local === 1 ? remote : -1;
}
