import type { QueuedCommand } from '../scripting/commit-participant.js';
import { RoundTrips } from './round-trips.js';
import type { ServerCommands } from './server-commands.js';

/** The interval at which a server that refused transactions is checked again, in milliseconds. */
const LOOK_AGAIN_MS = 1_000;

/** The fitness of a server for transactions. */
export type Fitness =
  | {
      readonly kind: 'fit';
      /**
       * True if it does at once the commands behind one that it has refused within a MULTI, as
       * Dragonfly does. Then a refusal beside an answered EXEC does not mean that nothing was done.
       */
      readonly goesOnAfterRefusal?: boolean;
      /** Known if it continues after a refusal, and the user may ask. */
      readonly commands?: ServerCommands | undefined;
    }
  /** It does not do what transactions rest on. */
  | { readonly kind: 'unfit'; readonly error: Error }
  /** It could not be found out: Redis refused what is needed for that, or was not reached. */
  | { readonly kind: 'unknown'; readonly error: Error };

/** A server that transactions run at, and its fitness as far as it is known. */
export class TransactionServer {
  readonly roundTrips = new RoundTrips();
  private known: Fitness | undefined;
  private looking: Promise<Fitness> | undefined;
  private lookedAt = -Infinity;

  constructor(
    private readonly look: (slot: number) => Promise<Fitness>,
    /** One that it has, on a Cluster. */
    public slot: number,
  ) {}

  /** Returns its fitness; checks it if it is not known. */
  async fitness(): Promise<Fitness> {
    const { known } = this;
    return known && known.kind !== 'unknown' ? known : await this.lookNow();
  }

  /**
   * Why transactions cannot be run there: nothing is to be sent. It is looked at again now and
   * then, since rights may be given back.
   */
  get refusal(): Error | undefined {
    const { known } = this;
    if (known?.kind !== 'unfit') return undefined;
    if (performance.now() - this.lookedAt >= LOOK_AGAIN_MS) void this.lookNow();
    return known.error;
  }

  /** Why nothing may be committed there yet. */
  get unverified(): Error | undefined {
    return this.known?.kind === 'unknown' ? this.known.error : undefined;
  }

  /** True if the server runs at once what follows a refused command within a MULTI. */
  get goesOnAfterRefusal(): boolean {
    return this.known?.kind === 'fit' && this.known.goesOnAfterRefusal === true;
  }

  /** Why it would refuse one of these within a MULTI, where they must not be sent for that. */
  refusalOf(commands: readonly QueuedCommand[]): Error | undefined {
    return this.known?.kind === 'fit' ? this.known.commands?.refusalOf(commands) : undefined;
  }

  /** It refused what it had been found fit for. */
  suspect(error: Error): void {
    this.known = { kind: 'unfit', error };
  }

  private lookNow(): Promise<Fitness> {
    this.lookedAt = performance.now();
    this.looking ??= this.lookOnce();
    return this.looking;
  }

  /** Never rejects. */
  private async lookOnce(): Promise<Fitness> {
    let found: Fitness;
    try {
      found = await this.look(this.slot);
    } catch (error) {
      found = { kind: 'unknown', error: error as Error };
    }
    this.looking = undefined;
    // An unknown result does not replace a known bad one.
    if (found.kind !== 'unknown' || this.known?.kind !== 'unfit') this.known = found;
    return this.known ?? found;
  }
}
