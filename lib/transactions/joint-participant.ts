import type { Redis } from 'ioredis';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { Deadline } from '../runtime/deadline.js';
import type { CommitParticipant, QueuedCommand } from '../scripting/commit-participant.js';

/** Several participants that one EXEC commits: a run and a permit. */
export class JointParticipant implements CommitParticipant {
  constructor(
    private readonly first: CommitParticipant,
    private readonly second: CommitParticipant,
  ) {}

  get connection(): RedisConnection {
    return this.first.connection;
  }

  get keys(): readonly string[] {
    return [...this.first.keys, ...this.second.keys];
  }

  get colocation(): string {
    return `${this.first.colocation} ${this.second.colocation}`;
  }

  async begin(deadline: Deadline): Promise<void> {
    await this.first.begin(deadline);
    try {
      await this.second.begin(deadline);
    } catch (error) {
      this.first.end(false);
      throw error;
    }
  }

  async verify(client: Redis): Promise<void> {
    await Promise.all([this.first.verify(client), this.second.verify(client)]);
  }

  writes(value: unknown): readonly QueuedCommand[] {
    return [...this.first.writes(value), ...this.second.writes(value)];
  }

  end(applied: boolean): { touched: boolean } {
    const first = this.first.end(applied);
    const second = this.second.end(applied);
    return { touched: first.touched || second.touched };
  }
}
