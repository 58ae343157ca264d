import { serverStats, spreadOf, type Contestant, type Measured } from './harness.js';
import type { Bar, Bench, Comparison, Result, Workload } from './workload.js';
import { Recorder, type Recording } from './wire/recorder.js';
import { Replayer } from './wire/replayer.js';

/** Calls of a recording: enough that a replay takes the server tens of milliseconds at least. */
const CALLS = 10_000;
const WARM_UP_CALLS = 1_000;

export interface PerCoreOptions {
  readonly bars: readonly Bar[];
  /** The contestants use several connections that depend on each other's order. */
  readonly merged?: boolean;
}

/**
 * The same work with the server as the bottleneck: the requests of each contestant are recorded on
 * the wire, and then sent again by a light client that waits for no reply.
 */
export function perCore(subject: Comparison, { bars, merged = false }: PerCoreOptions): Workload {
  return {
    name: `${subject.name}-per-core`,
    group: 'per-core',
    title: `${subject.title}: per core of the server`,
    about: `${subject.about} Recorded with so many callers, and sent again in a row.`,
    bars,
    async run(bench) {
      const tables: Result['tables'][number][] = [];
      for (const callers of subject.callers)
        tables.push({
          callers,
          rate: 'ops/s per core of the server',
          floor: subject.floor,
          measured: await measureReplays(subject, callers, merged, bench),
        });
      return { tables };
    },
  };
}

interface Taped {
  readonly name: string;
  readonly calls: number;
  readonly recording: Recording;
}

async function measureReplays(
  subject: Comparison,
  callers: number,
  merged: boolean,
  { port, admin, settings, isShort, ...rest }: Bench,
): Promise<Measured[]> {
  await admin.flushall('SYNC');
  const recorder = await Recorder.start(port);
  const taped: Taped[] = [];
  try {
    const { url } = recorder;
    const contestants = await subject.start({ ...rest, url, port: recorder.port, admin, settings, isShort });
    try {
      const calls = isShort ? 500 : CALLS;
      for (const contestant of contestants) {
        await perform(contestant, callers, isShort ? 100 : WARM_UP_CALLS);
        const from = await recorder.position();
        await perform(contestant, callers, calls);
        taped.push({ name: contestant.name, calls, recording: await recorder.recording(from) });
      }
    } finally {
      await Promise.all(contestants.map((contestant) => contestant.close()));
    }
  } finally {
    await recorder.stop();
  }
  // A call that never reaches the server has no rate there.
  const sent = taped.filter(({ calls, recording }) => requestsOf(recording) > calls / 1_000);
  const players = sent.map((tape) => ({ ...tape, player: new Replayer(tape.recording, port, merged) }));
  const samples = new Map<string, Sample[]>(sent.map(({ name }) => [name, []]));
  for (let round = 0; round < settings.rounds; round++)
    for (let i = 0; i < players.length; i++) {
      const { name, calls, player } = players[(round + i) % players.length]!;
      samples.get(name)!.push(await replays(player, calls, admin, settings.roundMs));
    }
  return sent.map(({ name, calls, recording }) => {
    const of = (figure: keyof Sample): readonly number[] => samples.get(name)!.map((one) => one[figure]);
    return {
      name,
      opsPerSecond: spreadOf(of('opsPerCore')),
      figures: {
        'server CPU, µs/op': spreadOf(of('serverCpuUs')),
        'commands/op': spreadOf([requestsOf(recording) / calls]),
        'server busy': spreadOf(of('busy')),
      },
    };
  });
}

const requestsOf = ({ exchanges, measuredFrom }: Recording): number => exchanges.length - measuredFrom;

async function perform({ op }: Contestant, callers: number, calls: number): Promise<void> {
  let left = calls;
  const caller = async (): Promise<void> => {
    while (left-- > 0) await op(sequence++);
  };
  await Promise.all(Array.from({ length: callers }, caller));
}

/** Apart from the numbers of `measure`. */
let sequence = 1_000_000_000;

interface Sample {
  readonly opsPerCore: number;
  readonly serverCpuUs: number;
  /** The part of the time in which the server was busy. */
  readonly busy: number;
}

/** Plays the recording on an empty server until that many milliseconds of its time are measured. */
async function replays(player: Replayer, calls: number, admin: Bench['admin'], ms: number): Promise<Sample> {
  let cpuSeconds = 0;
  let seconds = 0;
  let operations = 0;
  while (cpuSeconds * 1_000 < ms && seconds * 1_000 < 3 * ms) {
    await admin.flushall('SYNC');
    await player.prepare();
    const before = await serverStats(admin);
    const startedAt = performance.now();
    await player.replay();
    seconds += (performance.now() - startedAt) / 1_000;
    cpuSeconds += (await serverStats(admin)).cpuSeconds - before.cpuSeconds;
    operations += calls;
    player.end();
  }
  return {
    opsPerCore: operations / cpuSeconds,
    serverCpuUs: (cpuSeconds * 1e6) / operations,
    busy: cpuSeconds / seconds,
  };
}
