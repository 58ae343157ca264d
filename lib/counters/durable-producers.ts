import { copyDurability, type DurabilityOptions } from '../connection/durability.js';
import type { CounterProducer } from './counter-producer.js';

/** How many producers are kept while no operation uses them. */
const KEPT = 64;

/**
 * Lends producers to operations that wait for replicas. Operations of equal `durability` share one, and batches with no others. A producer without operations
 * goes on to serve another `durability`, so neither this process nor Redis keeps anything for each that was ever asked for.
 */
export class DurableProducers {
  private readonly lent = new Map<string, CounterProducer>();
  private readonly idle: CounterProducer[] = [];

  constructor(private readonly make: () => CounterProducer) {}

  /** Returns the producer for an operation, which must be handed to it in the same turn. */
  for(durability: DurabilityOptions): CounterProducer {
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
