import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { worker } from '../test/support/worker.js';
import type { ActorData, Call, FromActor, Moment, ToActor, Told } from './messages.js';
import type { PeerModule, QueuePlace, Tool, Tools } from './tool.js';

/** A process of an application that uses one peer. */
worker<ActorData>(async (context) => {
  const { job, file, url, witnessUrl } = context.data;
  // Peers print what goes wrong with connections, and much does.
  console.log = () => {};
  const witness = new Redis(witnessUrl);
  const report = (message: FromActor): void => context.send(message);
  const paused = new Map<number, () => void>();
  let pauses = 0;
  const pause = (moment: Moment, key: string): Promise<void> =>
    new Promise((resolve) => {
      const id = ++pauses;
      paused.set(id, resolve);
      report({ pause: id, moment, key });
    });
  const effectsOf = (key: string): string => `effects:${key}`;
  const make = async (key: string): Promise<string> => {
    await pause('before', key);
    const result = `result ${randomUUID()}`;
    await witness.rpush(effectsOf(key), result);
    await pause('after', key);
    return result;
  };
  const place: QueuePlace = {
    url,
    handle: make,
    pause: (id) => pause('before', id).then(() => pause('after', id)),
  };
  // oxlint-disable-next-line typescript/no-require-imports -- only this peer's packages are loaded
  const peer = require(file) as PeerModule<keyof Tools>;
  const tool: Tool = await peer.start(place);
  const perform = performer(job, tool, { make, pause, find: (key) => witness.lindex(effectsOf(key), 0) });

  const tellOf = async (call: Call): Promise<Told> => {
    try {
      const answer = perform(call);
      if (call.stallMs !== undefined) {
        await new Promise((resolve) => setImmediate(resolve));
        block(call.stallMs);
      }
      return { kind: 'ok', value: (await answer) ?? null };
    } catch (error) {
      const kind = peer.isHeld?.(error) ? 'held' : peer.notApplied(error) ? 'not-applied' : 'unknown';
      return { kind, error: String(error).slice(0, 200) };
    }
  };

  report({ ready: true });
  for (;;) {
    const message = await context.next<ToActor>();
    if ('close' in message) break;
    if ('resume' in message) {
      if (message.stallMs > 0) block(message.stallMs);
      paused.get(message.resume)?.();
      paused.delete(message.resume);
    } else {
      const { id, call } = message;
      void tellOf(call).then((told) => report({ id, told }));
    }
  }
  await tool.close();
  witness.disconnect();
});

interface Means {
  readonly make: (key: string) => Promise<string>;
  readonly find: (key: string) => Promise<string | null>;
  readonly pause: (moment: Moment, key: string) => Promise<void>;
}

function performer(job: keyof Tools, tool: Tool, means: Means): (call: Call) => Promise<unknown> {
  const { make, find, pause } = means;
  const as = <Job extends keyof Tools>(): Tools[Job] => tool as Tools[Job];
  const update = async ({ key, entry }: Call): Promise<void> => {
    let isFirst = true;
    const change = async (value: string | null): Promise<string> => {
      // A repeated attempt is not held up again.
      if (isFirst) await pause('inside', key);
      isFirst = false;
      return value ? `${value},${entry}` : entry!;
    };
    await as<'lock'>().update(key, change);
  };
  const performers: Record<keyof Tools, (call: Call) => Promise<unknown>> = {
    'run-once': ({ key }) =>
      as<'run-once'>().run(key, { make: () => make(key), find: async () => (await find(key)) ?? undefined }),
    'read-modify-write': update,
    lock: update,
    counter: ({ key }) => as<'counter'>().add(key),
    'rate-limit': ({ key }) => as<'rate-limit'>().take(key),
    queue: ({ key, isIdle }) => (isIdle ? as<'queue'>().isIdle() : as<'queue'>().push(key)),
  };
  return performers[job];
}

/** Stands still without the event loop, as a long computation does. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
