import type { Fault as ProxyFault, RedisCommand } from 'nestjs-atomic-redis/testing';
import { integerBetween } from '../test/soak/random.js';
import { later, type Actor } from './actor.js';
import type { Arena } from './arena.js';
import type { Moment } from './messages.js';
import { LEASE_MS, type JobName } from './tool.js';

/** Longer than a lease, even if a busy machine renews it late. */
export const STANDSTILL_MS = LEASE_MS + 1_200;
const OOM_MS = 700;
const DOWN_MS = 300;
const LOSSY_AFTER_MS = 200;
/** A request or a reply is held for so long while its server is struck. */
const HELD_MS = 150;

const ALL = ['run-once', 'read-modify-write', 'counter', 'lock', 'rate-limit', 'queue'] as const;
const WITH_WORK = ['run-once', 'read-modify-write', 'lock', 'queue'] as const;

export interface Fault {
  readonly id: string;
  readonly title: string;
  readonly about: string;
  readonly jobs: readonly JobName[];
  readonly needsPair?: true;
  /** Strikes a server or a process, at a pause of the work or while a command is under way. */
  readonly strike?: (struck: Struck) => Promise<number | undefined>;
  /** Strikes the connection at one command. */
  readonly onCommand?: 'lose reply' | 'deliver late';
  /** Strikes at this moment only. An update has one moment, inside. */
  readonly at?: Moment;
  /** Is awaited before the call. */
  readonly prepare?: (arena: Arena) => Promise<void>;
  /** Blocks the event loop of a call that has no pause. */
  readonly stallMs?: number;
}

interface Struck {
  readonly arena: Arena;
  readonly actor: Actor;
  /** To be awaited before the run is judged. */
  readonly settle: (ending: Promise<unknown>) => void;
  readonly clientGone: () => void;
}

const standStill = async ({ actor, settle }: Struck): Promise<undefined> => {
  actor.pause();
  settle(later(STANDSTILL_MS, undefined).then(() => actor.resume()));
};

export const FAULTS: readonly Fault[] = [
  { id: 'none', title: 'none', about: 'No fault: all must be right here.', jobs: ALL },
  {
    id: 'lost-reply',
    title: 'lost reply',
    about: 'One command is applied, its reply is lost, and the connection closes.',
    jobs: ALL,
    onCommand: 'lose reply',
  },
  {
    id: 'late-copy',
    title: 'late copy',
    about: 'The connection closes at one command, which reaches Redis up to 1.5 s later.',
    jobs: ALL,
    onCommand: 'deliver late',
  },
  {
    id: 'kill',
    title: 'kill -9',
    about:
      'The process is killed between the effect and its record; of an update, between its read and its write; of a counter and a limit, while a command is under way.',
    jobs: ALL,
    at: 'after',
    strike: async ({ actor }) => {
      await actor.kill();
      return undefined;
    },
  },
  {
    id: 'kill-before',
    title: 'kill -9, early',
    about: 'The process is killed before the effect, once it has the key or the job.',
    jobs: ['run-once', 'queue'],
    at: 'before',
    strike: async ({ actor }) => {
      await actor.kill();
      return undefined;
    },
  },
  {
    id: 'stopped-after',
    title: 'stopped after',
    about: `SIGSTOP between the effect and its record, or between read and write, for ${STANDSTILL_MS / 1_000} s: longer than the lease of ${LEASE_MS / 1_000} s.`,
    jobs: WITH_WORK,
    at: 'after',
    strike: standStill,
  },
  {
    id: 'stopped-before',
    title: 'stopped before',
    about: 'SIGSTOP before the effect. The process makes the effect when it wakes.',
    jobs: ['run-once', 'queue'],
    at: 'before',
    strike: standStill,
  },
  {
    id: 'stall',
    title: 'event loop stalls',
    about: `The event loop is blocked for ${STANDSTILL_MS / 1_000} s at the same moment; of a counter and a limit, once the call is sent.`,
    jobs: ALL,
    at: 'after',
    strike: async ({ settle }) => {
      settle(later(STANDSTILL_MS, undefined));
      return STANDSTILL_MS;
    },
    stallMs: STANDSTILL_MS,
  },
  {
    id: 'failover',
    title: 'failover',
    about:
      'FAILOVER: a replica that has everything becomes the master, behind the same address; the clients of the old one are disconnected.',
    jobs: ALL,
    needsPair: true,
    strike: async ({ arena }) => {
      await arena.failOver();
      return undefined;
    },
  },
  {
    id: 'failover-lossy',
    title: 'failover, writes lost',
    about: 'The master dies. The replica that takes its place lacks every write since the call began.',
    jobs: ALL,
    needsPair: true,
    prepare: (arena) => arena.detachReplica(),
    strike: async ({ arena }) => {
      // Others' calls are answered by then.
      await later(LOSSY_AFTER_MS, undefined);
      await arena.loseMaster();
      return undefined;
    },
  },
  {
    id: 'restart',
    title: 'restart',
    about: 'Redis is killed, and back after 0.3 s with everything that it had acknowledged.',
    jobs: ALL,
    strike: async ({ arena, settle }) => {
      await arena.server.kill();
      settle(later(DOWN_MS, undefined).then(() => arena.server.restart()));
      return undefined;
    },
  },
  {
    id: 'slow',
    title: 'Redis stands still',
    about: `Redis answers nothing for ${STANDSTILL_MS / 1_000} s, and then everything.`,
    jobs: ALL,
    strike: async ({ arena, settle }) => {
      const { server } = arena;
      server.pause();
      settle(later(STANDSTILL_MS, undefined).then(() => server.resume()));
      return undefined;
    },
  },
  {
    id: 'oom',
    title: 'out of memory',
    about: `Redis refuses all writes for ${OOM_MS / 1_000} s: it has no memory left.`,
    jobs: ALL,
    strike: async ({ arena, settle }) => {
      const { admin } = arena;
      await admin.config('SET', 'maxmemory', '1');
      settle(later(OOM_MS, undefined).then(() => admin.config('SET', 'maxmemory', '0')));
      return undefined;
    },
  },
  {
    id: 'script-flush',
    title: 'SCRIPT FLUSH',
    about: 'Redis forgets every script.',
    jobs: ALL,
    strike: async ({ arena }) => {
      await arena.admin.script('FLUSH');
      return undefined;
    },
  },
  {
    id: 'client-gone',
    title: 'client gone',
    about: 'The client goes away in the midst of its call, and asks again at once, elsewhere.',
    jobs: ['run-once'],
    at: 'after',
    strike: async ({ clientGone }) => {
      clientGone();
      await later(600, undefined);
      return undefined;
    },
  },
];

/** Commands that clients send by themselves. */
const OWN = new Set(
  (
    'HELLO AUTH CLIENT INFO SELECT SCRIPT TIME PING COMMAND CLUSTER READONLY READWRITE ASKING QUIT ROLE ' +
    'SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE'
  ).split(' '),
);
const counts = ({ name }: RedisCommand): boolean => !OWN.has(name);

/** Counts the commands of a peer that pass the first proxy, or both. */
export function countCommands(arena: Arena, isOnBoth: boolean): { stop(): number } {
  let seen = 0;
  const match = (command: RedisCommand): boolean => {
    if (counts(command)) seen++;
    return false;
  };
  const rules = proxiesOf(arena, isOnBoth).map((proxy) => proxy.delay({ match, times: Infinity }));
  return {
    stop() {
      for (const rule of rules) rule.cancel();
      return seen;
    },
  };
}

const proxiesOf = (arena: Arena, isOnBoth: boolean) => (isOnBoth ? arena.proxies : arena.proxies.slice(0, 1));

export interface ArmedFault {
  readonly isStruck: boolean;
  /** The seed's choice, for a person to read. */
  readonly how: string;
  readonly stallMs: number | undefined;
  /** Resolves when the client is to go away. */
  readonly clientGone: Promise<'gone'>;
  /** Resolves when the struck part has recovered and late messages have arrived. */
  settled(): Promise<void>;
}

/** Lets a fault strike once. A queue's strikes whichever process does the work. */
export async function arm(
  fault: Fault,
  arena: Arena,
  job: JobName,
  random: () => number,
  commands: number,
): Promise<ArmedFault> {
  const isOnBoth = job === 'queue';
  const endings: Promise<unknown>[] = [];
  let isStruck = false;
  let how = '';
  let leave!: (gone: 'gone') => void;
  const clientGone = new Promise<'gone'>((resolve) => (leave = resolve));
  const settle = (ending: Promise<unknown>): void => void endings.push(ending);
  const strike = async (actor: Actor): Promise<number | undefined> => {
    if (isStruck) return undefined;
    isStruck = true;
    const struck = fault.strike!({ arena, actor, settle, clientGone: () => leave('gone') });
    settle(struck);
    return await struck;
  };
  for (const actor of arena.actors) actor.onPause = async () => undefined;

  await fault.prepare?.(arena);
  const nth = integerBetween(random, 1, Math.max(1, commands));
  const lateMs = integerBetween(random, 50, 1_500);
  const isAtPause = random() < 0.5;
  const isReplyHeld = random() < 0.5;
  let seen = 0;
  const match = (command: RedisCommand): boolean => counts(command) && ++seen === nth;
  const hasPause = (WITH_WORK as readonly JobName[]).includes(job);
  let stallMs: number | undefined;

  if (fault.onCommand === 'lose reply') {
    how = `command ${nth} of ${commands}`;
    for (const proxy of proxiesOf(arena, isOnBoth))
      watch(proxy.loseReplies({ match }), () => (isStruck = true));
  } else if (fault.onCommand === 'deliver late') {
    how = `command ${nth} of ${commands}, ${lateMs} ms late`;
    for (const proxy of proxiesOf(arena, isOnBoth)) {
      const late = proxy.deliverLate(lateMs, { match });
      watch(late, () => {
        isStruck = true;
        settle(late.delivered);
      });
    }
  } else if (fault.stallMs !== undefined && !hasPause) {
    how = 'once the call is sent';
    stallMs = fault.stallMs;
    isStruck = true;
  } else if (fault.strike && hasPause && (fault.at !== undefined || isAtPause)) {
    const moment = fault.at ?? 'after';
    how = `at the moment "${moment}"`;
    for (const actor of isOnBoth ? arena.actors : arena.actors.slice(0, 1))
      actor.onPause = async (paused, at) =>
        // An update has one moment, inside.
        at === moment || at === 'inside' ? await strike(paused) : undefined;
  } else if (fault.strike) {
    how = `at command ${nth} of ${commands}, its ${isReplyHeld ? 'reply' : 'request'} held`;
    const held = isReplyHeld ? { replyMs: HELD_MS } : { requestMs: HELD_MS };
    proxiesOf(arena, isOnBoth).forEach((proxy, index) =>
      watch(proxy.delay({ match, ...held }), () => void strike(arena.actors[index]!)),
    );
  } else isStruck = true;

  return {
    get isStruck() {
      return isStruck;
    },
    how,
    stallMs,
    clientGone,
    async settled() {
      for (let i = 0; i < endings.length; i++) await endings[i];
    },
  };
}

function watch(rule: ProxyFault, onStrike: () => void): void {
  void rule.triggered.then(onStrike);
}
