import type { OperationOptions, ResolvedDefaults } from '../operations/operation.options.js';
import type { Batch } from './batch-protocol.js';
import { DurableProducers } from './durable-producers.js';
import type { PipelinedCommand } from './pipelined-command.js';
import type { Producer } from './producer.js';

type Delivery = Pick<OperationOptions, 'deduplicate' | 'durability'>;

/**
 * The producers of one service. Commands that wait for replicas share batches with none that do
 * not.
 */
export class Producers<Command extends PipelinedCommand, Made extends Batch<Command> = Batch<Command>> {
  private readonly deduplicating: Producer<Command, Made>;
  private readonly plain: Producer<Command, Made>;
  private readonly durable: DurableProducers<Command, Made>;
  private readonly plainDurable: DurableProducers<Command, Made>;

  constructor(
    make: (deduplicate: boolean) => Producer<Command, Made>,
    private readonly defaults: ResolvedDefaults,
  ) {
    this.deduplicating = make(true);
    this.plain = make(false);
    this.durable = new DurableProducers(() => make(true));
    this.plainDurable = new DurableProducers(() => make(false));
  }

  /** Returns the producer for a command, which must be handed to it in the same turn. */
  for({
    deduplicate = this.defaults.deduplicate,
    durability = this.defaults.durability,
  }: Delivery): Producer<Command, Made> {
    if (durability) return (deduplicate ? this.durable : this.plainDurable).for(durability);
    return deduplicate ? this.deduplicating : this.plain;
  }
}
