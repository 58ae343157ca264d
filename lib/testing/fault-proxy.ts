import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { FaultConnection, type ConnectionOwner } from './fault-connection.js';
import {
  ArmedFault,
  type Fault,
  type FaultAction,
  type FaultOptions,
  type LateFault,
} from './fault-rules.js';
import type { RedisCommand } from './resp-frames.js';

/** The server behind the proxy. @inline */
export type FaultProxyTarget = { host: string; port: number } | string;

/**
 * A TCP proxy before a Redis server that passes everything until told otherwise. It reads the
 * commands, so a fault can strike one of many in a pipeline: those before it are answered as usual,
 * those after it on the same connection share its fate. Only plain TCP, no TLS; a Cluster's
 * redirections lead past it, unless the client maps addresses (`natMap`).
 */
export interface FaultProxy {
  readonly host: string;
  readonly port: number;
  /** `redis://127.0.0.1:<port>` */
  readonly url: string;
  /** Client connections accepted so far. */
  readonly connections: number;
  readonly openConnections: number;
  /** Requests read so far, the client's own HELLO and INFO included. */
  readonly commandsSeen: number;
  /**
   * Number of times that a connection without a pending reply sent something. This equals the round
   * trips of callers that do not overlap.
   */
  readonly roundTrips: number;
  /** The request is applied; its reply is lost and the connection closes. */
  loseReplies(options?: FaultOptions): Fault;
  /** The reply stops after `bytes` bytes, and the connection closes. */
  deliverPartOfReply(bytes: number, options?: FaultOptions): Fault;
  /** The request never reaches the server; the connection closes. */
  cutBeforeServer(options?: FaultOptions): Fault;
  /**
   * Request or reply arrives later, and with it what follows on the connection.
   * @default 0 for each
   */
  delay(options: FaultOptions & { requestMs?: number; replyMs?: number }): Fault;
  /**
   * The connection turns into a zombie at this request: nothing arrives in either direction, and
   * neither side gets an error. `deliver` lets requests through and only answers vanish. The
   * server's side stays open until `reset()`.
   */
  blackHole(options?: FaultOptions & { deliver?: boolean }): Fault;
  /**
   * Turns every connection open now into a zombie, with the replies they wait for; new ones pass.
   */
  blackHoleNow(): void;
  /**
   * The connection closes at once; the server gets the request `afterMs` later on the old
   * connection to it, as from a middlebox that kept it. The reply is dropped.
   */
  deliverLate(afterMs: number, options?: FaultOptions): LateFault;
  /**
   * The proxy answers with this in place of the server, such as `-ERR unknown command\r\n`; the
   * request does not reach the server.
   */
  answer(reply: string, options?: FaultOptions): Fault;
  /**
   * Connections made from now on lead to another server, as behind an address that moves; open ones
   * stay.
   */
  moveTo(target: FaultProxyTarget): void;
  /**
   * Slows every connection down to this many bytes a second in each direction; undefined ends that.
   */
  limitSpeed(bytesPerSecond: number | undefined): void;
  /** Holds all bytes in both directions until `resume()`, also those whose delay ends meanwhile. */
  pause(): void;
  /** Ends `pause()`. */
  resume(): void;
  /** Closes every open connection on both sides. */
  disconnectAll(): void;
  /** New connections are reset as soon as they are made. */
  refuseConnections(refuse: boolean): void;
  /**
   * Back to passing everything: faults, pause, slowness and refusal end; zombies and deliveries
   * still to come are destroyed.
   */
  reset(): void;
  /** Closes every connection and the port. */
  stop(): Promise<void>;
}

/**
 * Starts a proxy on a free port of 127.0.0.1. It does not keep this process alive.
 *
 * @example
 * const proxy = await startFaultProxy({ target: server.url });
 * const fault = proxy.loseReplies({ match: ({ name }) => name === 'EXEC' });
 * await act(new Redis(proxy.url));
 * await fault.triggered;
 */
export async function startFaultProxy(options: { target: FaultProxyTarget }): Promise<FaultProxy> {
  const proxy = new TcpFaultProxy(parseTarget(options.target));
  await proxy.listen();
  return proxy;
}

class TcpFaultProxy implements FaultProxy, ConnectionOwner {
  readonly host = '127.0.0.1';
  connections = 0;
  commandsSeen = 0;
  roundTrips = 0;
  paused = false;
  bytesPerMs: number | undefined;
  #refusing = false;
  #faults: ArmedFault[] = [];
  readonly #open = new Set<FaultConnection>();
  readonly #listener = createServer((socket) => this.#accept(socket));

  constructor(private target: { host: string; port: number }) {}

  async listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#listener.once('error', reject);
      this.#listener.listen(0, this.host, resolve);
    });
    this.#listener.unref();
  }

  get port(): number {
    return (this.#listener.address() as AddressInfo).port;
  }

  get url(): string {
    return `redis://${this.host}:${this.port}`;
  }

  get openConnections(): number {
    return this.#open.size;
  }

  loseReplies(options: FaultOptions = {}): Fault {
    return this.#arm({ kind: 'lose-reply', bytes: 0 }, options);
  }

  deliverPartOfReply(bytes: number, options: FaultOptions = {}): Fault {
    return this.#arm({ kind: 'lose-reply', bytes }, options);
  }

  cutBeforeServer(options: FaultOptions = {}): Fault {
    return this.#arm({ kind: 'cut' }, options);
  }

  delay(options: FaultOptions & { requestMs?: number; replyMs?: number }): Fault {
    const { requestMs = 0, replyMs = 0 } = options;
    return this.#arm({ kind: 'delay', requestMs, replyMs }, options);
  }

  blackHole(options: FaultOptions & { deliver?: boolean } = {}): Fault {
    return this.#arm({ kind: 'black-hole', deliver: options.deliver ?? false }, options);
  }

  blackHoleNow(): void {
    for (const connection of this.#open) connection.becomeZombie();
  }

  deliverLate(afterMs: number, options: FaultOptions = {}): LateFault {
    return this.#arm({ kind: 'deliver-late', afterMs }, options);
  }

  answer(reply: string, options: FaultOptions = {}): Fault {
    return this.#arm({ kind: 'answer', reply: Buffer.from(reply) }, options);
  }

  moveTo(target: FaultProxyTarget): void {
    this.target = parseTarget(target);
  }

  limitSpeed(bytesPerSecond: number | undefined): void {
    this.bytesPerMs = bytesPerSecond === undefined ? undefined : bytesPerSecond / 1_000;
  }

  pause(): void {
    this.#setPaused(true);
  }

  resume(): void {
    this.#setPaused(false);
  }

  disconnectAll(): void {
    for (const connection of this.#open) connection.destroy();
  }

  refuseConnections(refuse: boolean): void {
    this.#refusing = refuse;
  }

  reset(): void {
    for (const fault of this.#faults) fault.cancel();
    this.#faults = [];
    this.#refusing = false;
    this.bytesPerMs = undefined;
    for (const connection of this.#open) connection.destroy(true);
    this.#setPaused(false);
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#listener.close(() => resolve()));
    this.disconnectAll();
    await closed;
  }

  onCommand(): void {
    this.commandsSeen += 1;
  }

  takeFault(command: RedisCommand): ArmedFault | undefined {
    const fault = this.#faults.find((candidate) => candidate.strikes(command));
    if (fault?.over) this.#faults = this.#faults.filter((candidate) => !candidate.over);
    return fault;
  }

  onRoundTrip(): void {
    this.roundTrips += 1;
  }

  onClosed(connection: FaultConnection): void {
    this.#open.delete(connection);
  }

  #arm(action: FaultAction, options: FaultOptions): ArmedFault {
    const fault = new ArmedFault(action, options);
    this.#faults.push(fault);
    return fault;
  }

  #setPaused(paused: boolean): void {
    this.paused = paused;
    for (const connection of this.#open) connection.applyPause();
  }

  #accept(client: Socket): void {
    if (this.#refusing) {
      client.on('error', () => {});
      client.resetAndDestroy();
      return;
    }
    this.connections += 1;
    this.#open.add(new FaultConnection(client, connect(this.target), this));
  }
}

function parseTarget(target: FaultProxyTarget): { host: string; port: number } {
  if (typeof target !== 'string') return { host: target.host, port: target.port };
  const url = new URL(target);
  if (url.protocol !== 'redis:') {
    throw new TypeError(`target: only redis:// URLs can be proxied, got ${url.protocol}//`);
  }
  // Brackets of an IPv6 address belong to the URL, not to the host.
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || 6379) };
}
