import type { Redis } from 'ioredis';
import { isWritable } from './client.js';
import { Deadline } from '../runtime/deadline.js';
import { replicationDeadline, type DurabilityOptions } from './durability.js';

/**
 * The longest single WAIT, in milliseconds, so that a dead connection is noticed by its silence.
 */
const WAIT_STEP_MS = 500;

/** The same on a connection that other calls share: the server runs their commands after it. */
const SHARED_WAIT_STEP_MS = 100;

/** The number of replicas that have all changes of their server. */
export interface Replicated {
  /**
   * -1 if that could not be asked, or the server itself does not have the change on disk in time.
   */
  readonly replicas: number;
  readonly cause?: unknown;
}

/** The reply to a command, and the number of replicas that have the change. */
export interface Acknowledged extends Replicated {
  readonly reply: unknown;
}

/**
 * Keeps one channel to each server for each kind of {@link DurabilityOptions}, opened when it is
 * first needed.
 */
export class DurableChannels {
  private readonly channels = new Map<string, DurableChannel>();

  constructor(private readonly open: (owner: string, deadline: Deadline) => Promise<Redis>) {}

  to(owner: string, durability: DurabilityOptions): DurableChannel {
    const id = [owner, durability.replicas, durability.fsync ?? false].join();
    let channel = this.channels.get(id);
    if (!channel) {
      channel = new DurableChannel((deadline) => this.open(owner, deadline), durability);
      this.channels.set(id, channel);
    }
    return channel;
  }

  close(): void {
    for (const channel of this.channels.values()) channel.close();
  }
}

interface Answered {
  readonly reply: unknown;
  /** Never rejects. */
  readonly replicated: Promise<Replicated>;
}

interface Queued {
  readonly send: (client: Redis) => Promise<unknown>;
  readonly durability: DurabilityOptions;
  readonly deadline: Deadline;
  readonly resolve: (answer: Answered) => void;
  readonly reject: (error: unknown) => void;
}

/** A call whose command was sent. */
interface Waiting {
  until: Deadline;
  readonly resolve: (replicated: Replicated) => void;
}

/**
 * Sends commands that must be replicated, on a dedicated connection to one server, and WAITs behind
 * them there. WAIT answers for the writes of its own connection, so on any other it would prove
 * nothing. Commands that arrive while one WAIT blocks the connection share the next.
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
   * @param durability gives the time to wait for replicas once the command was sent; its other
   * parts are the channel's
   * @param deadline of the command's own answer
   * @param late makes the error if there is no reply; called with true if the command was sent
   * @throws the error of `send`, and RedisUnavailableError when there is no connection in time
   */
  async send(
    send: Queued['send'],
    durability: DurabilityOptions,
    deadline: Deadline,
    late: (wasSent: boolean) => Error,
  ): Promise<Acknowledged> {
    let command!: Queued;
    const answered = new Promise<Answered>((resolve, reject) => {
      command = { send, durability, deadline, resolve, reject };
    });
    this.queued.push(command);
    if (!this.running) void this.run();
    const { reply, replicated } = await deadline.race(answered, () => {
      const at = this.queued.indexOf(command);
      if (at >= 0) this.queued.splice(at, 1);
      return late(at < 0);
    });
    return { reply, ...(await replicated) };
  }

  close(): void {
    this.client?.disconnect();
  }

  /** Never rejects: errors go to the calls. */
  private async run(): Promise<void> {
    this.running = true;
    let waiting: Waiting[] = [];
    while (this.queued.length > 0 || waiting.length > 0) {
      if (waiting.length === 0 && !(await this.connect())) continue;
      const client = this.client!;
      // Includes commands that arrived while it was opened, or during the last WAIT.
      if (isWritable(client))
        waiting = waiting.concat(this.queued.splice(0).map((command) => transmit(command, client)));
      // Leaves in the same write as the commands.
      waiting = await this.serve(waiting, client);
    }
    this.running = false;
  }

  /** @returns true if there is a connection; if not, the queued calls were rejected */
  private async connect(): Promise<boolean> {
    if (this.client && isWritable(this.client)) return true;
    try {
      this.client = await this.open(Deadline.latest(this.queued.map(({ deadline }) => deadline)));
      return true;
    } catch (error) {
      for (const { reject } of this.queued.splice(0)) reject(error);
      return false;
    }
  }

  /**
   * WAITs once.
   * @returns the calls that still wait: replicas do not have their change, and their time is not
   * over
   */
  private async serve(waiting: Waiting[], client: Redis): Promise<Waiting[]> {
    const shortest = waiting.reduce((ms, { until }) => Math.min(ms, until.remainingMs), SHARED_WAIT_STEP_MS);
    let replicated: Replicated;
    try {
      replicated = { replicas: await wait(client, this.durability, shortest) };
    } catch (cause) {
      replicated = { replicas: -1, cause };
    }
    const isOver = replicated.cause || replicated.replicas >= this.durability.replicas;
    return waiting.filter(({ until, resolve }) => {
      if (!isOver && !until.passed) return true;
      resolve(replicated);
      return false;
    });
  }
}

function transmit({ send, durability, resolve, reject }: Queued, client: Redis): Waiting {
  let told!: Waiting['resolve'];
  const replicated = new Promise<Replicated>((done) => (told = done));
  const waiting: Waiting = { until: replicationDeadline(durability), resolve: told };
  send(client).then(
    (reply) => resolve({ reply, replicated }),
    (error: unknown) => {
      // Nothing to wait for.
      waiting.until = Deadline.in(0);
      reject(error);
    },
  );
  return waiting;
}

/** Waits on a connection until enough replicas have its last change, or the time is over. */
export async function replicasOf(
  client: Redis,
  durability: DurabilityOptions,
  until: Deadline,
): Promise<Replicated> {
  for (;;) {
    try {
      const replicas = await wait(client, durability, Math.min(WAIT_STEP_MS, until.remainingMs));
      if (replicas >= durability.replicas || until.passed) return { replicas };
    } catch (cause) {
      return { replicas: -1, cause };
    }
  }
}

async function wait(client: Redis, { replicas, fsync }: DurabilityOptions, forMs: number): Promise<number> {
  // 0 would wait for ever.
  const ms = Math.max(1, Math.ceil(forMs));
  if (!fsync) return await client.wait(replicas, ms);
  const [local, remote] = (await client.call('WAITAOF', 1, replicas, ms)) as [number, number];
  return local === 1 ? remote : -1;
}
