import { NotReplicatedError, OutcomeUnknownError } from '../atomic-redis.errors.js';
import type { DurabilityOptions } from '../connection/durability.js';
import { randomId } from '../runtime/random-id.js';
import type { RedisConnection } from '../connection/redis-connection.js';
import type { ScriptRunner } from '../scripting/script-runner.js';
import type { WorkInFlight } from '../runtime/work-in-flight.js';
import { STALE, type Batch, type BatchProtocol } from './batch-protocol.js';
import { CommandPipeline, type SendBatch } from './command-pipeline.js';
import type { PipelinedCommand } from './pipelined-command.js';

/**
 * By how much a lane's state outlives the last moment at which a copy of any of its batches could
 * be applied.
 */
const STATE_TTL_MARGIN_MS = 60_000;

/** Lanes to one server. While it works on the batch of one, the next of another is made. */
const LANES = 2;

/**
 * The number of lanes that are kept though nothing is under way; of a Cluster's thousands the
 * others are forgotten.
 */
const KEPT_LANES = 64;

/** The way in which the commands of a producer are sent. */
export interface ProducerOptions {
  /** True if batches are remembered, so that one whose answer was lost is sent again. */
  readonly deduplicate: boolean;
  readonly durability: DurabilityOptions | undefined;
}

/**
 * Sends the commands of one feature with an identity of its own: the id, which no other producer
 * has, and one sequence of batches over all its lanes. By these the script tells a copy of a batch
 * from a new one.
 */
export class Producer<Command extends PipelinedCommand, Made extends Batch<Command> = Batch<Command>> {
  private readonly id = randomId('hex');
  private sequence = 0;
  /** Monotonic time of the latest deadline of its batches. */
  private latestDeadline = 0;
  private readonly lanes = new Map<number, CommandPipeline<Command, Made>>();
  private busyLanes = 0;
  private onIdle: (() => void) | undefined;

  constructor(
    private readonly connection: RedisConnection,
    private readonly scripts: ScriptRunner,
    private readonly inFlight: WorkInFlight,
    private readonly protocol: BatchProtocol<Command, Made>,
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
   * Sends the command. Its caller is answered, or rejected with RedisUnavailableError,
   * OutcomeUnknownError, RedisReplyError, or the refusal that its own answer stands for.
   *
   * @param placedBy the key that decides the lane, and on a Cluster the slot
   */
  perform(command: Command, placedBy: string = command.key): void {
    const number = this.laneOf(placedBy);
    let lane = this.lanes.get(number);
    if (!lane) {
      lane = this.openLane(number);
      this.lanes.set(number, lane);
    }
    if (!lane.isBusy) {
      this.inFlight.enter();
      this.busyLanes++;
    }
    lane.add(command);
  }

  /** On a Cluster the slot, since all that a script touches must be in one. */
  private laneOf(key: string): number {
    if (this.connection.isCluster) return this.connection.keys.slotOf(key);
    let hash = 0;
    for (let i = 0; i < key.length; i++) hash = (Math.imul(hash, 31) + key.charCodeAt(i)) | 0;
    return ((hash ^ (hash >>> 16)) >>> 0) % LANES;
  }

  private openLane(number: number): CommandPipeline<Command, Made> {
    const { connection, how } = this;
    const { keys, isCluster } = connection;
    const state = isCluster
      ? keys.pinned('producer', number, this.id)
      : keys.global('producer', `${this.id}:${number}`);
    return new CommandPipeline(
      connection,
      isCluster ? number : 0,
      this.protocol,
      how.durability,
      this.sendTo(state, isCluster ? number : 0),
      () => {
        if (this.lanes.size > KEPT_LANES) this.lanes.delete(number);
        this.inFlight.leave();
        if (--this.busyLanes === 0) this.onIdle?.();
      },
    );
  }

  /** Rounded up to seconds: V8 remembers the text of a number that comes again. */
  private get stateTtlMs(): number {
    return Math.ceil((this.latestDeadline - performance.now()) / 1_000) * 1_000 + STATE_TTL_MARGIN_MS;
  }

  /** Returns the function that sends the batches of a lane. */
  private sendTo(state: string, slot: number): SendBatch<Made> {
    const { connection, scripts, protocol } = this;
    const { script, commandName } = protocol;
    return (batch, progress, answered, refused) => {
      const { deduplicate, durability } = this.how;
      // It gets its number when its turn comes, so that the batches of each lane have growing
      // numbers.
      const sequence = ++this.sequence;
      // A batch of little time must not shorten the life of a state that an earlier one needs.
      this.latestDeadline = Math.max(this.latestDeadline, batch.deadline.at);
      const { touched, runs } = protocol.encode(batch, connection.keys, `${this.id}.${sequence}`);
      // The time limit is filled in when it is sent.
      const args = ['', String(sequence), deduplicate ? String(this.stateTtlMs) : '', ...runs];
      const tell = (answer: unknown, unreplicated?: NotReplicatedError): void => {
        if (answer !== STALE) return answered(answer as string, unreplicated);
        refused(
          new OutcomeUnknownError(
            `${commandName} was sent in a batch, and a later batch was applied before this one was answered`,
          ),
        );
      };
      const fail = (error: unknown): void =>
        error instanceof NotReplicatedError ? tell(error.result, error) : refused(error);
      const options = { resend: deduplicate, durability, progress };
      scripts.send(script, [state, ...touched], args, slot, batch.deadline, options, tell, fail);
    };
  }
}
