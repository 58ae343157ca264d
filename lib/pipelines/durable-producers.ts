import { copyDurability, type DurabilityOptions } from '../connection/durability.js';
import type { Batch } from './batch-protocol.js';
import type { PipelinedCommand } from './pipelined-command.js';
import type { Producer } from './producer.js';

/** The number of producers that are kept while no command uses them. */
const KEPT = 64;

/**
 * Lends producers to commands that wait for replicas. Commands of equal `durability` share one, and
 * batches with no others. An idle producer then serves another `durability`, so neither this
 * process nor Redis keeps state for every one ever used.
 */
export class DurableProducers<Command extends PipelinedCommand, Made extends Batch<Command>> {
  private readonly lent = new Map<string, Producer<Command, Made>>();
  private readonly idle: Producer<Command, Made>[] = [];

  constructor(private readonly make: () => Producer<Command, Made>) {}

  /** Returns the producer for a command, which must be handed to it in the same turn. */
  for(durability: DurabilityOptions): Producer<Command, Made> {
    const { replicas, timeoutMs, fsync } = durability;
    const id = `${replicas},${timeoutMs},${fsync}`;
    let producer = this.lent.get(id);
    if (!producer) {
      producer = this.idle.pop() ?? this.make();
      producer.serve(copyDurability(durability), () => this.takeBack(id));
      this.lent.set(id, producer);
    }
    return producer;
  }

  private takeBack(id: string): void {
    const producer = this.lent.get(id)!;
    this.lent.delete(id);
    if (this.idle.length < KEPT) this.idle.push(producer);
  }
}
