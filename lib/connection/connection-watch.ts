import type { Redis } from 'ioredis';
import { sleep } from '../runtime/deadline.js';
import { bytesToWrite, isBlocked, patienceFor, pendingOf } from './pending-commands.js';
import { mustRenew } from './renewals.js';
import type { ProbeResult } from './server-probe.js';

const TICK_MS = 100;

/**
 * The shared connection is looked into when it owes answers and is silent this long: a claim has 800 ms to find another one. Connections with one owner may take
 * longer, since their loss costs more: the answer to an EXEC. Doubled for each drop until connections were calm again.
 */
const SUSPICIOUS_MS = 300;
const DEDICATED_SUSPICIOUS_MS = 1_500;
const MAX_DOUBLINGS = 6;

/**
 * Connections that answer in time for so many ticks are calm, and the doublings are forgotten. The time is no measure: a call that was dropped must be sent
 * again first, and a large one takes long to be sent.
 */
const CALM_TICKS = 10;

/** A busy server is looked into again after this long. */
const BUSY_AGAIN_MS = 1_000;

/** Once a new connection is answered, the silent one has this long to be answered too. */
const GRACE_MS = 50;

/** While a connection is used, the server is asked this often whether it still is the master. */
const ROLE_EVERY_MS = 1_000;

/** A connection that was idle this long is tried before a call depends on it: load balancers forget connections, without telling. */
export const IDLE_MS = 15_000;

export interface WatchedConnections {
  /** The shared connection, or that to each node of a Cluster. */
  shared(): readonly Redis[];
  dedicated(): Iterable<Redis>;
  /** Asks another connection about a silent one. */
  probe(silent: Redis): Promise<ProbeResult>;
  /** Ends a connection that is dead. */
  drop(client: Redis, reason: Error): void;
  /** Replaces a connection whose password ends soon. */
  renew(client: Redis): void;
  /** The shared connection is to be tried before the next call. */
  distrust(): void;
  /** The server is to be asked for its role. */
  askRole(): Promise<void>;
}

/** State of a connection at the last look. */
interface Seen {
  stream: Redis['stream'];
  bytesRead: number;
  bytesToWrite: number;
  silentMs: number;
  activeAt: number;
  isProbed: boolean;
  /** The server's role was told since the last look: progress, but no use of the connection. */
  wasToldRole: boolean;
  /** On the scale of `performance.now()`: it is not looked into before. */
  patientUntil: number;
}

/**
 * Watches the library's connections. One is alive while bytes move on it. One that owes answers and is silent is not taken for dead by the time alone: the
 * server is asked on a new connection.
 */
export class ConnectionWatch {
  private readonly seen = new WeakMap<Redis, Seen>();
  private timer: NodeJS.Timeout | undefined;
  private tickedAt = 0;
  private doublings = 0;
  private calmTicks = 0;
  private askedRoleAt = 0;
  private isAskingRole = false;

  constructor(private readonly connections: WatchedConnections) {}

  start(): void {
    this.tickedAt = Date.now();
    this.askedRoleAt = performance.now();
    this.timer ??= setInterval(() => this.tick(), TICK_MS).unref();
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private tick(): void {
    const now = performance.now();
    const wasFrozen = Date.now() - this.tickedAt > IDLE_MS;
    this.tickedAt = Date.now();
    let isActive = false;
    let isCalm = true;
    for (const client of this.connections.shared()) {
      this.renewInTime(client);
      const seen = this.look(client, now, SUSPICIOUS_MS);
      isCalm &&= client.status === 'ready' && isAnswering(client, seen);
      if (!seen) continue;
      isActive ||= seen.activeAt === now;
      const idleMs = now - seen.activeAt;
      if (pendingOf(client).length === 0 && (idleMs > IDLE_MS || wasFrozen)) this.connections.distrust();
    }
    for (const client of this.connections.dedicated()) {
      this.renewInTime(client);
      const seen = this.look(client, now, DEDICATED_SUSPICIOUS_MS);
      isCalm &&= isAnswering(client, seen);
      if (!seen) continue;
      isActive ||= seen.activeAt === now;
      // Nothing else is sent on it, and a message that does not come is not missed.
      if (client.condition?.subscriber && now - seen.activeAt > IDLE_MS) client.ping().catch(() => undefined);
    }
    this.calmTicks = isCalm ? this.calmTicks + 1 : 0;
    if (this.calmTicks >= CALM_TICKS) this.doublings = 0;
    if (isActive && !this.isAskingRole && now - this.askedRoleAt > ROLE_EVERY_MS) void this.askRole();
  }

  private renewInTime(client: Redis): void {
    if (client.status === 'ready' && mustRenew(client)) this.connections.renew(client);
  }

  private look(client: Redis, now: number, leastMs: number): Seen | undefined {
    const stream = client.stream as Redis['stream'] | undefined;
    if (!stream || stream.destroyed) return undefined;
    const bytesRead = stream.bytesRead;
    const unsent = bytesToWrite(stream);
    const seen = this.seen.get(client);
    if (seen?.stream !== stream) {
      const fresh = {
        stream,
        bytesRead,
        bytesToWrite: unsent,
        silentMs: 0,
        activeAt: now,
        isProbed: false,
        wasToldRole: false,
        patientUntil: 0,
      };
      this.seen.set(client, fresh);
      return fresh;
    }
    const hasMoved = bytesRead !== seen.bytesRead || unsent !== seen.bytesToWrite;
    seen.bytesRead = bytesRead;
    seen.bytesToWrite = unsent;
    if (hasMoved) {
      if (!seen.wasToldRole) seen.activeAt = now;
      seen.patientUntil = 0;
    }
    seen.wasToldRole = false;
    // Counted in ticks: after this process stood still, answers are read before the next one.
    seen.silentMs = hasMoved || pendingOf(client).length === 0 ? 0 : seen.silentMs + TICK_MS;
    const factor = 2 ** this.doublings;
    const suspiciousMs = Math.max(SUSPICIOUS_MS * factor, leastMs);
    if (seen.silentMs >= suspiciousMs && !seen.isProbed && now > seen.patientUntil) {
      seen.patientUntil = now - seen.silentMs + suspiciousMs + factor * patienceFor(client);
      if (now >= seen.patientUntil) void this.examine(client, seen);
    }
    return seen;
  }

  private async examine(client: Redis, seen: Seen): Promise<void> {
    const { stream } = seen;
    const { bytesRead } = stream;
    seen.isProbed = true;
    const result = await this.connections.probe(client).catch(() => 'busy' as const);
    // A server that has just begun to answer again has answered both.
    if (result === 'answers') await sleep(GRACE_MS);
    seen.isProbed = false;
    const now = performance.now();
    if (client.stream !== stream || stream.bytesRead !== bytesRead || pendingOf(client).length === 0) return;
    if (result === 'busy') {
      seen.patientUntil = now + BUSY_AGAIN_MS;
      return;
    }
    // Drops that follow each other may be of one call that is only slow.
    this.doublings = Math.min(this.doublings + 1, MAX_DOUBLINGS);
    this.calmTicks = 0;
    this.connections.drop(
      client,
      new Error(
        result === 'answers'
          ? `there is no answer on a connection, while new ones are answered`
          : `there is no answer, and new connections are not accepted`,
      ),
    );
  }

  private async askRole(): Promise<void> {
    this.isAskingRole = true;
    await this.connections.askRole().catch(() => undefined);
    this.isAskingRole = false;
    this.askedRoleAt = performance.now();
    for (const client of this.connections.shared()) {
      this.renewInTime(client);
      const seen = this.seen.get(client);
      if (seen && seen.stream === client.stream) seen.wasToldRole = true;
    }
  }
}

/** Tells that a connection owes no answer for long. One that is missing owes none. */
const isAnswering = (client: Redis, seen: Seen | undefined): boolean =>
  !seen || seen.silentMs < SUSPICIOUS_MS || isBlocked(client);
