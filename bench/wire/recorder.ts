import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** One request of a connection, and its reply. */
export interface Exchange {
  /** Number of the connection. */
  readonly connection: number;
  readonly request: Buffer;
  readonly reply: Buffer;
}

/** All requests of some connections, in the order in which they came. */
export interface Recording {
  readonly exchanges: readonly Exchange[];
  /** Earlier requests prepare the measurement: connections, scripts, keys. */
  readonly measuredFrom: number;
  /** The time at which it began, milliseconds since the epoch. */
  readonly startedAt: number;
}

/** A connection with less than this part of the requests does unrelated background work. */
const LEAST_PART = 0.01;

/** A proxy in front of a server that records what passes. It has a process of its own. */
export class Recorder {
  private constructor(
    private readonly child: ChildProcess,
    readonly port: number,
    private readonly startedAt: number,
  ) {}

  static async start(serverPort: number): Promise<Recorder> {
    const startedAt = Date.now();
    const program = fileURLToPath(new URL('recorder-process.js', import.meta.url));
    const child = fork(program, [String(serverPort)], { serialization: 'advanced' });
    const [port] = (await once(child, 'message')) as [number];
    return new Recorder(child, port, startedAt);
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Number of requests so far. */
  async position(): Promise<number> {
    return (await this.ask('position')) as number;
  }

  /**
   * Returns what the connections sent that were busy since `measuredFrom`, from their beginning on.
   */
  async recording(measuredFrom: number): Promise<Recording> {
    const all = (await this.ask('exchanges')) as (Omit<Exchange, 'reply'> & Partial<Exchange>)[];
    const requests = new Map<number, number>();
    for (const { connection } of all.slice(measuredFrom))
      requests.set(connection, (requests.get(connection) ?? 0) + 1);
    const least = LEAST_PART * (all.length - measuredFrom);
    const exchanges: Exchange[] = [];
    let preparing = 0;
    for (const [position, { connection, request, reply }] of all.entries()) {
      // No caller waits for a request that is still under way.
      if (reply === undefined || (requests.get(connection) ?? 0) <= least) continue;
      exchanges.push({ connection, request: Buffer.from(request), reply: Buffer.from(reply) });
      if (position < measuredFrom) preparing++;
    }
    return {
      exchanges,
      measuredFrom: preparing,
      startedAt: this.startedAt,
    };
  }

  async stop(): Promise<void> {
    const exited = once(this.child, 'exit');
    this.child.kill();
    await exited;
  }

  private async ask(what: 'position' | 'exchanges'): Promise<unknown> {
    const answer = once(this.child, 'message');
    this.child.send(what);
    return ((await answer) as unknown[])[0];
  }
}
