import { InvalidArgumentError } from '../atomic-redis.errors.js';
import { isClusterClient } from '../connection/client.js';
import { Deadline } from '../runtime/deadline.js';
import type { RedisConnection } from '../connection/redis-connection.js';

/** No server can be told to take less than this in one argument, in bytes. */
const ALWAYS_TAKEN = 1_024 * 1_024;

/** The largest value that servers take by default, in bytes. */
const DEFAULTS = { argument: 512 * 1_024 * 1_024, command: 1_024 * 1_024 * 1_024 };

/** The time for which an answer is good. */
const KEPT_MS = 60_000;

const ASK_TIMEOUT_MS = 1_000;

type Limits = typeof DEFAULTS;

/**
 * Refuses what the server would take for a broken client: it closes the connection of one that
 * sends an argument or a command that is too long, so that the outcome, and that of all other calls
 * on the connection, would be unknown.
 */
export class PayloadLimits {
  private asked: { readonly limits: Promise<Limits>; readonly at: number } | undefined;

  constructor(private readonly connection: RedisConnection) {}

  /**
   * Returns undefined where there is no doubt, else resolves when it may be sent.
   * @throws InvalidArgumentError
   */
  check(path: string, payloads: readonly (string | Buffer)[]): Promise<void> | undefined {
    return this.isInDoubt(payloads) ? this.compare(path, payloads) : undefined;
  }

  /** True if the server's limits have to be known. */
  isInDoubt(payloads: readonly (string | Buffer)[]): boolean {
    let total = 0;
    // A character is up to three bytes.
    for (const payload of payloads)
      total += typeof payload === 'string' ? payload.length * 3 : payload.length;
    return total > ALWAYS_TAKEN;
  }

  private async compare(path: string, payloads: readonly (string | Buffer)[]): Promise<void> {
    const { argument, command } = await this.limits();
    let total = 0;
    for (const payload of payloads) {
      const size = Buffer.byteLength(payload);
      total += size;
      if (size > argument)
        throw new InvalidArgumentError(
          path,
          `at most ${argument} bytes, which the server takes (proto-max-bulk-len)`,
          `${size} bytes`,
        );
    }
    if (total > command)
      throw new InvalidArgumentError(
        path,
        `at most ${command} bytes, which the server takes (client-query-buffer-limit)`,
        `${total} bytes`,
      );
  }

  private limits(): Promise<Limits> {
    const now = performance.now();
    if (!this.asked || now - this.asked.at > KEPT_MS) this.asked = { limits: this.ask(), at: now };
    return this.asked.limits;
  }

  /** Not every user may ask; then the server's defaults are assumed. */
  private async ask(): Promise<Limits> {
    const { client } = this.connection;
    const node = isClusterClient(client) ? client.nodes('master')[0] : client;
    if (!node || !this.connection.isReady) return DEFAULTS;
    const read = async (name: string, otherwise: number): Promise<number> => {
      const late = (): Error => new Error('not in time');
      const answer = await Deadline.in(ASK_TIMEOUT_MS)
        .race(node.config('GET', name) as Promise<unknown>, late)
        .catch(() => undefined);
      const value = Number((answer as [string, string] | undefined)?.[1]);
      return value > 0 ? value : otherwise;
    };
    const [argument, command] = await Promise.all([
      read('proto-max-bulk-len', DEFAULTS.argument),
      read('client-query-buffer-limit', DEFAULTS.command),
    ]);
    return { argument, command };
  }
}
