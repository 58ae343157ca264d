import type { Cluster, Redis } from 'ioredis';
import { isClusterClient, type RedisClient } from './client.js';
import { checkConnection, OutOfOrderError, type ConnectionFacts } from './connection-check.js';

/** Stands for no connection. Differs from every stream. */
const NONE = Symbol('none');

export interface AdmissionListener {
  /**
   * Called when the connection is in order. `facts` are missing for a Cluster. `isNew`: it was
   * opened since the last admission.
   */
  admitted(facts: ConnectionFacts | undefined, isNew: boolean): void;
  /** Called when the connection is not in order, and was given up. */
  refused(error: OutOfOrderError): void;
}

/** Judges a client's connections: each is used only once it was found to be in order. */
export class Admission {
  /** The stream of the connection that is in order. A Cluster client has none of its own. */
  private admitted: unknown = NONE;
  private lastAdmitted: unknown = NONE;
  private checking: unknown = NONE;

  constructor(
    private readonly client: RedisClient,
    private readonly absentKey: () => string,
    private readonly listener: AdmissionListener,
  ) {}

  /** True while the current connection is in order. */
  get isGiven(): boolean {
    if (this.client.status !== 'ready') return false;
    const stream = (this.client as Redis).stream as Redis['stream'] | undefined;
    // A client stays 'ready' until its socket has closed. The socket may have ended before.
    return stream === this.admitted && (stream === undefined || stream.writable);
  }

  /** Takes the admission back until the next check. @returns true if there was one */
  revoke(): boolean {
    const wasAdmitted = this.admitted !== NONE;
    this.admitted = NONE;
    return wasAdmitted;
  }

  /** Checks the present connection, unless a check is under way. */
  async check(): Promise<void> {
    const { client } = this;
    if (isClusterClient(client)) return;
    const { stream } = client;
    if (client.status !== 'ready' || this.checking === stream) return;
    this.checking = stream;
    try {
      const facts = await checkConnection(client, this.absentKey());
      if (client.stream === stream && client.status === 'ready') this.admit(stream, facts);
    } catch (error) {
      // A lost connection comes back by itself.
      if (!(error instanceof OutOfOrderError) || client.stream !== stream) return;
      client.disconnect(true);
      this.listener.refused(error);
    } finally {
      if (this.checking === stream) this.checking = NONE;
    }
  }

  /**
   * Checks nodes of a Cluster before use only if they may have several databases. Otherwise MOVED
   * shows a wrong node.
   */
  async checkNodes(client: Cluster): Promise<void> {
    try {
      if (client.options.redisOptions?.db)
        await Promise.all(client.nodes('master').map((node) => checkConnection(node, this.absentKey())));
      this.admit(undefined, undefined);
    } catch (error) {
      if (!(error instanceof OutOfOrderError) || error.disorder !== 'database')
        return client.disconnect(true);
      this.listener.refused(error);
    }
  }

  private admit(stream: unknown, facts: ConnectionFacts | undefined): void {
    this.admitted = stream;
    const isNew = this.lastAdmitted !== stream;
    this.lastAdmitted = stream;
    this.listener.admitted(facts, isNew);
  }
}
