import type { Redis } from 'ioredis';
import { Deadline, fullJitter, sleep } from '../runtime/deadline.js';
import { randomId } from '../runtime/random-id.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { OperationRunner } from '../operations/operation-runner.js';
import { ringBell } from './queue.operations.js';

/**
 * Longest that one BZPOPMIN blocks. With a look at each queue now and then, an idle consumer sends
 * less than one command in two seconds.
 */
const BLOCK_SECONDS = 4;

/** The time for which the connection is kept when no queue is waited on. */
const LINGER_MS = 5_000;

/** For opening the connection, and for the bell. */
const OPEN_TIMEOUT_MS = 2_000;

/** A queue that a process waits on. */
export interface WatchedQueue {
  /** The key that BZPOPMIN waits for. */
  readonly wakeKey: string;
  /** True if anything in this process waits for a job of it. */
  readonly isWaitedFor: boolean;
  /** There may be jobs. */
  wake(): void;
  /** There are jobs, and nothing in this process waits for them any more. */
  passOn(): Promise<void>;
}

/**
 * Tells processes of new jobs: one BZPOPMIN, on a connection of its own, waits on all queues that
 * the process waits on; on a Cluster, on those of one slot.
 *
 * It moves no job. What it pops only says that there are some, so a reply that is lost costs no
 * more than a look at the queue. A queue that is waited on while it blocks is made known by a bell:
 * a key that it waits on too.
 */
export class JobNotifier {
  private readonly watched = new Set<WatchedQueue>();
  private readonly closing = new AbortController();
  private readonly bell: string;
  /** Keys of the BZPOPMIN under way. */
  private blockedOn: ReadonlySet<string> | undefined;
  private hasRung = false;
  private client: Redis | undefined;
  private rounds: Promise<void> | undefined;
  private somethingWaits = (): void => undefined;

  constructor(
    private readonly connection: RedisConnection,
    private readonly operations: OperationRunner,
    private readonly slot: number,
  ) {
    const id = randomId('base64url');
    const { keys, isCluster } = connection;
    this.bell = isCluster ? keys.pinned('queue-bell', slot, id) : keys.global('queue-bell', id);
  }

  /** Wakes the queue when there are jobs, for as long as it is waited for. */
  watch(queue: WatchedQueue): void {
    if (this.closing.signal.aborted) return;
    this.watched.add(queue);
    this.somethingWaits();
    if (this.blockedOn && !this.blockedOn.has(queue.wakeKey)) this.ring();
    this.rounds ??= this.runRounds().finally(() => (this.rounds = undefined));
  }

  /** Passes on what the last BZPOPMIN may have popped. */
  async close(): Promise<void> {
    this.closing.abort();
    this.somethingWaits();
    const blocked = [...this.watched].filter(({ wakeKey }) => this.blockedOn?.has(wakeKey));
    this.dropClient();
    await this.rounds;
    await Promise.all(blocked.map((queue) => queue.passOn()));
  }

  private ring(): void {
    if (this.hasRung) return;
    this.hasRung = true;
    // Not heard, it is made up for by the next round.
    this.operations
      .part(ringBell, this.bell, { timeoutMs: OPEN_TIMEOUT_MS, deduplicate: false })
      .catch(() => undefined);
  }

  private async runRounds(): Promise<void> {
    const { signal } = this.closing;
    let failures = 0;
    while (await this.isWaitedFor()) {
      try {
        await this.round();
        failures = 0;
      } catch {
        if (signal.aborted) break;
        failures++;
        this.dropClient();
        // It may have popped for any of them.
        for (const queue of [...this.watched]) queue.wake();
        // Redis may have said that the slot has moved.
        await this.connection.refreshTopology(Deadline.in(OPEN_TIMEOUT_MS));
        await sleep(fullJitter(failures, 20, 1_000), signal).catch(() => undefined);
      }
    }
    this.dropClient();
  }

  /** Resolves with whether a queue is waited on, now or before long. */
  private async isWaitedFor(): Promise<boolean> {
    const { signal } = this.closing;
    this.forgetLeft();
    if (this.watched.size === 0 && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LINGER_MS);
        this.somethingWaits = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return this.watched.size > 0 && !signal.aborted;
  }

  private forgetLeft(): void {
    for (const queue of this.watched) if (!queue.isWaitedFor) this.watched.delete(queue);
  }

  private async round(): Promise<void> {
    const client = await this.readyClient();
    if (this.closing.signal.aborted) return;
    this.forgetLeft();
    if (this.watched.size === 0) return;
    const queues = new Map([...this.watched].map((queue) => [queue.wakeKey, queue]));
    this.blockedOn = new Set(queues.keys());
    this.hasRung = false;
    let popped: [key: string, ...rest: string[]] | null;
    try {
      popped = await client.bzpopmin(this.bell, ...queues.keys(), BLOCK_SECONDS);
    } finally {
      this.blockedOn = undefined;
    }
    if (!popped) return;
    const queue = queues.get(popped[0].slice(this.connection.keys.keyPrefix.length));
    if (queue?.isWaitedFor) queue.wake();
    else void queue?.passOn();
  }

  private async readyClient(): Promise<Redis> {
    if (this.client?.status === 'ready') return this.client;
    this.dropClient();
    const deadline = Deadline.in(OPEN_TIMEOUT_MS);
    const owner = await this.connection.ownerOf(this.slot, deadline);
    const client = await this.connection.openDedicated(owner, 'queue', deadline);
    if (this.closing.signal.aborted) client.disconnect();
    return (this.client = client);
  }

  private dropClient(): void {
    this.client?.disconnect();
    this.client = undefined;
  }
}
