import type { Redis } from 'ioredis';
import { sleep } from '../runtime/deadline.js';
import { bytesToWrite, isBlocked, patienceFor, pendingOf } from './pending-commands.js';
import { mustRenew } from './renewals.js';
import type { ProbeResult } from './server-probe.js';

const TICK_MS = 100;

/**
 * The time for which the shared connection may owe replies in silence, in milliseconds. After it,
 * the server is probed: a claim has 800 ms to find another connection. Connections with one owner
 * may take longer, since their loss costs more: the reply to an EXEC. Each drop doubles the time
 * until connections are calm again.
 */
const SUSPICIOUS_MS = 300;
const DEDICATED_SUSPICIOUS_MS = 1_500;
const MAX_DOUBLINGS = 6;

/**
 * Connections that answer in time for this many ticks are calm, and the doublings are forgotten.
 * Time alone is no measure: a dropped call must be sent again first, and a large one takes long to
 * send.
 */
const CALM_TICKS = 10;

/** A busy server is probed again after this long, in milliseconds. */
const BUSY_AGAIN_MS = 1_000;

/**
 * Once a new connection is answered, the silent one has this long to be answered too, in
 * milliseconds.
 */
const GRACE_MS = 50;

/**
 * The interval at which a server in use is asked whether it is still the master, in milliseconds.
 */
const ROLE_EVERY_MS = 1_000;

/**
 * A connection that was idle this long is tried before a call depends on it: load balancers drop
 * connections without notice.
 */
export const IDLE_MS = 15_000;

export interface WatchedConnections {
  /** Returns the shared connection, or the one to each node of a Cluster. */
  shared(): readonly Redis[];
  dedicated(): Iterable<Redis>;
  /** Asks another connection about a silent one. */
  probe(silent: Redis): Promise<ProbeResult>;
  /** Ends a connection that is dead. */
  drop(client: Redis, reason: Error): void;
  /** Replaces a connection whose password ends soon. */
  renew(client: Redis): void;
  /** Tries the shared connection before the next call. */
  distrust(): void;
  /** Asks the server for its role. */
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
  /**
   * True if the server reported its role since the last look. That is progress, but no use of the
   * connection.
   */
  wasToldRole: boolean;
  /** The server is not probed before this time, on the scale of `performance.now()`. */
  patientUntil: number;
}

/**
 * Watches the library's connections. A connection is alive while bytes move on it. Silence alone
 * does not make a connection that owes replies dead: the server is asked on a new connection.
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
    // Counted in ticks: after this process stood still, replies are read before the next tick.
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
    // Drops that follow each other may come from one call that is only slow.
    this.doublings = Math.min(this.doublings + 1, MAX_DOUBLINGS);
    this.calmTicks = 0;
    this.connections.drop(
      client,
      new Error(
        result === 'answers'
          ? `a connection gets no answer, while new ones do`
          : `it does not answer, and does not accept new connections`,
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

/** Returns true if no reply on a connection is long overdue. A missing connection owes none. */
const isAnswering = (client: Redis, seen: Seen | undefined): boolean =>
  !seen || seen.silentMs < SUSPICIOUS_MS || isBlocked(client);
