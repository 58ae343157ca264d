import { Inject, Injectable, Logger } from '@nestjs/common';
import { OPTIONS } from '../atomic-redis.constants.js';
import { describe, InvalidArgumentError } from '../atomic-redis.errors.js';
import type { ResolvedOptions } from '../atomic-redis.options.js';
import * as check from '../atomic-redis.validation.js';
import { Observer } from '../observability/observer.js';
import { whenAborted } from '../runtime/abort-listeners.js';
import { resultOf } from '../connection/durability.js';
import { untilAborted } from '../runtime/deadline.js';
import { OperationRunner } from '../operations/operation-runner.js';
import { checkOperationOptions, type OperationOptions } from '../operations/operation.options.js';
import { randomId } from '../runtime/random-id.js';
import { RedisConnection } from '../connection/redis-connection.js';
import { assertOutsideTransaction } from '../runtime/transaction-scope.js';
import { WorkInFlight } from '../runtime/work-in-flight.js';
import { ChunkingWriter } from './chunking-writer.js';
import { ShadowConnection } from './shadow-connection.js';
import { ShadowEmptyError, ShadowLostError } from './shadow-key.errors.js';
import { checkReplaceOptions, copyReplaceOptions, type ReplaceOptions } from './shadow-key.options.js';
import { checkSource, fill, snapshot, type ShadowSource } from './shadow-source.js';
import type { Shadow } from './shadow-type.js';
import { rollback, swap } from './shadow-key.operations.js';

/** The result of a replacement. */
export interface ReplaceResult {
  /** False when a newer version was there before; the live value was left as it was. */
  readonly swapped: boolean;
  /** The size of the new value: fields, elements, members or entries; bytes for a string. */
  readonly written: number;
  /**
   * With mode `copy`, the keys that hold the new values beside the live ones, in their order, until
   * `shadowTtlMs` is over.
   */
  readonly shadowKeys: readonly string[];
}

const SWAPPED = { changed: ({ swapped }: ReplaceResult): boolean => swapped };
const ROLLED_BACK = { changed: (isBack: boolean): boolean => isBack };

const DEFAULT_SHADOW_TTL_MS = 60_000;

const NOT_AS_BUILT = 'its content had changed before the swap';

/** The most targets whose keys one script can name. */
const MAX_TARGETS = 500;

/**
 * Replaces large values as one step. The new value is built under another key, the shadow, and then
 * takes the live key's place. Readers see the old value or the new one, whole.
 */
@Injectable()
export class ShadowKeyService {
  private readonly logger = new Logger('ShadowKeyService');
  private readonly builds = new Map<ShadowConnection, Promise<unknown>>();
  private isClosed = false;

  /** @internal */
  constructor(
    private readonly connection: RedisConnection,
    private readonly observer: Observer,
    private readonly operations: OperationRunner,
    private readonly inFlight: WorkInFlight,
    @Inject(OPTIONS) private readonly options: ResolvedOptions,
  ) {}

  /**
   * Builds a new value from `source`, in chunks over a dedicated connection, and swaps it in by one
   * atomic step. An array, a Set, a Map or an object is copied at once; items of any other source
   * are copied when they are written.
   *
   * ```ts
   * await shadowKeys.replace('catalog:{shop}', async (writer) => {
   *   for await (const product of products()) await writer.hset({ [product.sku]: JSON.stringify(product) });
   * }, { version: importedAt, onProgress: ({ written }) => … });
   * ```
   *
   * @throws the error of the source or of `onProgress`, the same instance, or the reason of
   * `signal`. The live value is left as it was then, as with every error but `OutcomeUnknownError`
   * and `NotReplicatedError`
   * @throws InvalidArgumentError for a wrong argument, before any I/O; for a value that cannot be
   * written, when it is written
   * @throws ShadowEmptyError when the source wrote nothing, unless `onEmpty` is `'delete'`
   * @throws ShadowLostError when the shadow or its connection was lost on the way: the call may be
   * repeated
   * @throws RedisUnavailableError when Redis could not be reached in time
   * @throws RedisReplyError when Redis refused a write or the swap: out of memory, for example
   * @throws NotReplicatedError when it was swapped in, and `durability` was not reached in time
   * @throws OutcomeUnknownError when the swap was sent and not answered in time; if it was not done
   * by then, it never will be
   */
  replace(key: string, source: ShadowSource, options: ReplaceOptions = {}): Promise<ReplaceResult> {
    return this.observer.operation(
      'shadowKeys.replace',
      async () => {
        check.key('key', key);
        checkReplaceOptions('options', options);
        checkSource('source', source, options.type);
        return await this.swapIn([[key, snapshot(source)]], copyReplaceOptions(options));
      },
      SWAPPED,
    );
  }

  /**
   * Does the same as {@link replace} for several keys: one step swaps all of them, or none. The
   * sources are read one after the other. On a Cluster the keys must share a hash slot.
   *
   * @throws CrossSlotError before any I/O, and as {@link replace} does
   */
  replaceAll(
    sources: Readonly<Record<string, ShadowSource>>,
    options: ReplaceOptions = {},
  ): Promise<ReplaceResult> {
    return this.observer.operation(
      'shadowKeys.replaceAll',
      async () => {
        if (typeof sources !== 'object' || sources === null)
          throw new InvalidArgumentError('sources', 'an object of keys and their sources', sources);
        const entries = Object.entries(sources);
        checkTargets('sources', entries.length);
        checkReplaceOptions('options', options);
        for (const [key, source] of entries) {
          check.key('sources: a key', key);
          checkSource(`sources[${describe(key)}]`, source, options.type);
        }
        const copies = entries.map(([key, source]) => [key, snapshot(source)] as const);
        return await this.swapIn(copies, copyReplaceOptions(options));
      },
      SWAPPED,
    );
  }

  /**
   * Puts back the value that the last swap replaced, with the rest of its time to live. That swap
   * must have kept it (`keepPrevious`). The live value is freed. Of several keys, all go back or
   * none. The version stays that of the last swap.
   *
   * @returns false if no value was kept; nothing was changed then
   * @throws InvalidArgumentError, CrossSlotError before any I/O
   * @throws RedisUnavailableError, RedisReplyError when nothing was changed; OutcomeUnknownError,
   * NotReplicatedError
   */
  rollback(keys: string | readonly string[], options: OperationOptions = {}): Promise<boolean> {
    return this.observer.operation(
      'shadowKeys.rollback',
      async () => {
        const list = typeof keys === 'string' ? [keys] : keys;
        if (!Array.isArray(list)) throw new InvalidArgumentError('keys', 'a key or an array of keys', keys);
        for (const [i, key] of list.entries())
          check.key(typeof keys === 'string' ? 'keys' : `keys[${i}]`, key);
        const unique = [...new Set(list as string[])];
        checkTargets('keys', unique.length);
        checkOperationOptions('options', options);
        return await this.operations.part(rollback, unique, options, this.options.services.shadowKeys);
      },
      ROLLED_BACK,
    );
  }

  /**
   * Ends the builds under way, whose callers get a ModuleClosedError. Resolves when they have
   * cleaned up. @internal
   */
  async close(): Promise<void> {
    this.isClosed = true;
    const ending = [...this.builds.values()];
    for (const build of this.builds.keys()) build.fail(this.connection.closedError());
    await Promise.allSettled(ending);
  }

  private async swapIn(
    sources: readonly (readonly [key: string, source: ShadowSource])[],
    options: ReplaceOptions,
  ): Promise<ReplaceResult> {
    const keys = sources.map(([key]) => key);
    assertOutsideTransaction(`Replacing ${describe(keys[0])}`, options.propagation);
    const slot = this.connection.isCluster ? this.connection.keys.commonSlotOf(keys) : 0;
    const {
      signal,
      onProgress,
      timeoutMs = this.options.services.shadowKeys.timeoutMs,
      shadowTtlMs: ttlMs = DEFAULT_SHADOW_TTL_MS,
    } = options;
    signal?.throwIfAborted();
    if (this.isClosed) throw this.connection.closedError();

    const startedAt = performance.now();
    const build = new ShadowConnection(this.connection, this.operations, {
      liveKeys: keys,
      ttlMs,
      timeoutMs,
      onProgress: (written) => {
        const told: unknown = onProgress?.({ written, elapsedMs: performance.now() - startedAt });
        // The build does not await it, so only the log can report that it failed.
        if (told instanceof Promise)
          told.catch((error: unknown) => this.logger.error('onProgress rejected', error));
      },
    });
    const stopListening = signal && whenAborted(signal, () => build.fail(signal.reason));
    const running = this.inFlight.track(() => this.buildAndSwap(build, slot, sources, options));
    this.builds.set(build, running);
    try {
      return await running;
    } finally {
      this.builds.delete(build);
      stopListening?.();
    }
  }

  private async buildAndSwap(
    build: ShadowConnection,
    slot: number,
    sources: readonly (readonly [key: string, source: ShadowSource])[],
    options: ReplaceOptions,
  ): Promise<ReplaceResult> {
    try {
      await build.open(slot);
      const shadows: Shadow[] = [];
      for (const [key, source] of sources) shadows.push(await this.build(build, key, source, options));
      return await this.swap(build, shadows, options);
    } finally {
      await build.discard();
      build.close();
    }
  }

  private async build(
    build: ShadowConnection,
    liveKey: string,
    source: ShadowSource,
    { type = 'hash', onEmpty = 'refuse' }: ReplaceOptions,
  ): Promise<Shadow> {
    const id = randomId('hex');
    const shadow: Shadow = {
      liveKey,
      key: `${this.connection.keys.colocated('shadow', liveKey)}:${id}`,
      type: undefined,
      hasBegun: false,
      size: 0,
    };
    const writer = new ChunkingWriter(shadow, build);
    try {
      await untilAborted(fill(source, type, writer), build.signal);
      await writer.end();
    } catch (error) {
      // Writes that the source did not await get the error too.
      build.fail(error);
      throw error;
    }
    if (!shadow.hasBegun && onEmpty === 'refuse') throw new ShadowEmptyError(liveKey);
    return shadow;
  }

  private async swap(
    build: ShadowConnection,
    shadows: readonly Shadow[],
    options: ReplaceOptions,
  ): Promise<ReplaceResult> {
    const { mode = 'rename', ttlMs = '', version = '', shadowTtlMs = DEFAULT_SHADOW_TTL_MS } = options;
    const { keepPrevious = false, propagation, timeoutMs, durability } = options;
    const call = { shadows, mode, ttlMs, version, keepPrevious, shadowTtlMs };
    const answered = this.operations.part(
      swap,
      call,
      { propagation, timeoutMs, durability },
      { ...this.options.services.shadowKeys, deduplicate: true },
    );
    return await resultOf(answered, (answer) => {
      if (answer.kind === 'lost') throw new ShadowLostError([shadows[answer.target]!.liveKey], NOT_AS_BUILT);
      const swapped = answer.kind === 'swapped';
      const { written } = build;
      if (!swapped) return { swapped, written, shadowKeys: [] };
      build.handOver();
      const kept = mode === 'copy' ? shadows.filter(({ hasBegun }) => hasBegun) : [];
      return { swapped, written, shadowKeys: kept.map(({ key }) => key) };
    });
  }
}

function checkTargets(path: string, count: number): void {
  if (count === 0 || count > MAX_TARGETS)
    throw new InvalidArgumentError(path, `of 1 to ${MAX_TARGETS} keys`, count);
}
