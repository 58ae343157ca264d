import { execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';

/** A wall clock of its own for the servers that are started with it. */
export interface SteppedClock {
  /** Starts processes inside of `start` with this clock. */
  with<T>(start: () => Promise<T>): Promise<T>;
  /** Sets it so far from the real one, at once; monotonic clocks do not follow. */
  setOffset(ms: number): void;
  remove(): void;
}

const HOUR_MS = 3_600_000;

/** True on Linux with a C compiler. */
export function canStepClocks(): boolean {
  const clock = makeSteppedClock();
  clock?.remove();
  return clock !== undefined;
}

/**
 * Steps the clock once, by an hour and back.
 * @throws Error where the server does not follow it
 */
export async function seeStep(clock: SteppedClock, client: Redis): Promise<void> {
  const aheadMs = async (): Promise<number> => {
    const [seconds, micros] = (await client.time()).map(Number) as [number, number];
    return seconds * 1_000 + micros / 1_000 - Date.now();
  };
  const before = await aheadMs();
  clock.setOffset(HOUR_MS);
  const stepped = (await aheadMs()) - before;
  clock.setOffset(0);
  // A busy machine is late by seconds at the most.
  if (stepped < HOUR_MS / 2) throw new Error(`the server's clock went ${stepped} ms, not ${HOUR_MS}`);
}

/** @returns undefined where there is no C compiler to build it with, or no Linux */
export function makeSteppedClock(): SteppedClock | undefined {
  if (process.platform !== 'linux') return undefined;
  const folder = mkdtempSync(join(tmpdir(), 'clock-'));
  const library = join(folder, 'clock.so');
  try {
    const source = join(__dirname, 'stepped-clock.c');
    execFileSync('cc', ['-O2', '-shared', '-fPIC', '-o', library, source, '-ldl'], { stdio: 'pipe' });
  } catch {
    rmSync(folder, { recursive: true });
    return undefined;
  }
  const path = join(folder, 'offset');
  const fd = openSync(path, 'w');
  const setOffset = (ms: number): void => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(ms) * 1_000n);
    writeSync(fd, bytes, 0, 8, 0);
  };
  setOffset(0);
  return {
    setOffset,
    with: async (start) => {
      Object.assign(process.env, { LD_PRELOAD: library, STEPPED_CLOCK: path });
      try {
        return await start();
      } finally {
        delete process.env['LD_PRELOAD'];
        delete process.env['STEPPED_CLOCK'];
      }
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
