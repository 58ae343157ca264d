import { NotAnIntegerError, NotReplicatedError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { DurabilityOptions } from '../connection/durability.js';
import type { KeySpace } from '../scripting/key-space.js';
import { randomId } from '../runtime/random-id.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { CallProgress, ScriptRunner } from '../scripting/script-runner.js';
import type { WorkInFlight } from '../runtime/work-in-flight.js';
import { applyScript, STALE } from './apply.script.js';
import { argumentsOf, type CounterBatch } from './counter-batch.js';
import type { CounterCommand } from './counter-command.js';
import { CounterPipeline, type BatchAnswer } from './counter-pipeline.js';
import type { CounterModuleOptions } from './counter.options.js';
import { CounterState } from './lua-counter.js';

/** By how much a lane's state outlives the last moment at which a copy of its batch could be applied. */
const STATE_TTL_MARGIN_MS = 60_000;

/** To one server. While it works on the batch of one, the next of another is made. */
const LANES = 2;

/** How many lanes are kept though nothing is under way; of a Cluster's thousands the others are forgotten. */
const KEPT_LANES = 64;

/** How the operations of a producer are sent. */
export interface ProducerOptions {
  /** Whether batches are remembered, so that one whose answer was lost is sent again. */
  readonly deduplicate: boolean;
  readonly durability: DurabilityOptions | undefined;
}

/**
 * Sends operations on counters with an identity of its own: the id, which no other producer has, and one sequence of batches over all its
 * lanes. By these the script tells a copy of a batch from a new one.
 */
export class CounterProducer {
  private readonly id = randomId('hex');
  private sequence = 0;
  private readonly lanes = new Map<number, CounterPipeline>();
  private busyLanes = 0;
  private onIdle: (() => void) | undefined;

  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly inFlight: WorkInFlight,
    private readonly options: Required<CounterModuleOptions>,
    private how: ProducerOptions,
  ) {}

  /**
   * Waits for other replicas from now on. Only while nothing is under way.
   * @param onIdle called once nothing is under way any more
   */
  serve(durability: DurabilityOptions | undefined, onIdle: () => void): void {
    this.how = { deduplicate: this.how.deduplicate, durability };
    this.lanes.clear();
    this.onIdle = onIdle;
  }

  /**
   * Sees to it that the operation is answered or rejected: with RedisUnavailableError, OutcomeUnknownError, RedisReplyError, or what its own answer
   * comes to.
   */
  perform(operation: CounterCommand): void {
    const number = this.laneOf(operation.key);
    let lane = this.lanes.get(number);
    if (!lane) {
      lane = this.openLane(number);
      this.lanes.set(number, lane);
    }
    if (!lane.isBusy) {
      this.inFlight.enter();
      this.busyLanes++;
    }
    lane.add(operation);
  }

  /** On a Cluster the slot, since all that a script touches must be in one. */
  private laneOf(key: string): number {
    if (this.connection.isCluster) return this.connection.keys.slotOf(key);
    let hash = 0;
    for (let i = 0; i < key.length; i++) hash = (Math.imul(hash, 31) + key.charCodeAt(i)) | 0;
    return ((hash ^ (hash >>> 16)) >>> 0) % LANES;
  }

  private openLane(number: number): CounterPipeline {
    const { connection, how } = this;
    const { keys, isCluster } = connection;
    const state = isCluster
      ? keys.pinned('producer', number, this.id)
      : keys.global('producer', `${this.id}:${number}`);
    return new CounterPipeline(
      connection,
      isCluster ? number : 0,
      this.options.maxBatchSize,
      how.durability,
      (batch, progress) => this.send(state, batch, progress),
      () => {
        if (this.lanes.size > KEPT_LANES) this.lanes.delete(number);
        this.inFlight.leave();
        if (--this.busyLanes === 0) this.onIdle?.();
      },
    );
  }

  private async send(state: string, batch: CounterBatch, progress: CallProgress): Promise<BatchAnswer> {
    const { deduplicate, durability } = this.how;
    const { keys } = this.connection;
    // Numbered when its turn has come, so that the batches of each lane have growing numbers.
    const sequence = ++this.sequence;
    let answer: string;
    let unreplicated: NotReplicatedError | undefined;
    try {
      answer = await this.scripts.run(
        applyScript,
        { state, counters: keysOf(keys, [...batch.runsOf.keys()]) },
        {
          sequence,
          stateTtlMs: deduplicate ? Math.ceil(batch.deadline.remainingMs) + STATE_TTL_MARGIN_MS : '',
          operations: argumentsOf(batch, `${this.id}.${sequence}`, this.options.undoWindowMs),
        },
        batch.deadline,
        { resend: deduplicate, durability, progress },
      );
    } catch (error) {
      if (!(error instanceof NotReplicatedError)) throw error;
      unreplicated = error;
      answer = error.result as string;
    }
    if (answer !== STALE) return { answer, unreplicated };
    throw new OutcomeUnknownError(
      'A later batch of operations on counters was applied before this one was answered',
    );
  }
}

/** As the script takes them: the counters, then what serves each. */
const keysOf = (keys: KeySpace, counters: readonly string[]): string[] => [
  ...counters,
  ...counters.map((counter) => keys.colocated('life', counter)),
  ...counters.map((counter) => keys.colocated('holds', counter)),
];

/** A counter and the keys that serve it whoever changes it. */
export const companionsOf = (
  keys: KeySpace,
  counter: string,
): { readonly counter: string; readonly life: string; readonly holds: string } => ({
  counter,
  life: keys.colocated('life', counter),
  holds: keys.colocated('holds', counter),
});

/** @throws NotAnIntegerError when the script found something else than a counter */
export function assertCounter(key: string, answer: string): void {
  if (answer === CounterState.NotAnInteger) throw new NotAnIntegerError(key, 'other-string');
  if (answer === CounterState.WrongType) throw new NotAnIntegerError(key, 'other-type');
}
