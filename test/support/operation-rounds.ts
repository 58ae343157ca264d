import type { TestingModule } from '@nestjs/testing';
import { AtomicRedis, type ConnectionOption } from 'nestjs-atomic-redis';
import {
  answerOf,
  OPERATIONS,
  TIME_MS,
  type Answer,
  type Operation,
} from '../scripting/scripted-operations.js';
import { startApp } from './app.js';

export type Answers = Record<string, (Answer | 'done')[]>;

/** An application for each operation, so that no operation waits in line for another. */
export interface OperationApps {
  readonly all: readonly (readonly [name: string, operation: Operation, redis: AtomicRedis])[];
  close(): Promise<void>;
}

export async function startOperationApps(
  connection: ConnectionOption,
  isWanted: (name: string) => boolean = () => true,
): Promise<OperationApps> {
  const modules: TestingModule[] = [];
  const all: [string, Operation, AtomicRedis][] = [];
  for (const [name, operation] of Object.entries(OPERATIONS)) {
    if (!isWanted(name)) continue;
    const module = await startApp({ connection, idempotency: { timeoutMs: TIME_MS }, timeoutMs: TIME_MS });
    modules.push(module);
    all.push([name, operation, module.get(AtomicRedis)]);
  }
  return { all, close: async () => void (await Promise.all(modules.map((module) => module.close()))) };
}

export interface Round {
  readonly timeoutMs: number;
  /** Keys of the calls of one operation, one for each. */
  readonly keysOf: (name: string) => readonly string[];
  /** Begins once all is prepared. */
  readonly refuse: () => Promise<unknown>;
}

const inTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Makes the calls of each operation at once, and tells what each came to. */
export async function callAll(
  apps: OperationApps['all'],
  { timeoutMs, keysOf, refuse }: Round,
): Promise<Answers> {
  const prepared = new Map<string, unknown[]>();
  for (const [name, { before }, atomic] of apps) {
    const all = keysOf(name).map(async (key) => await before?.(atomic, key, { timeoutMs }));
    prepared.set(name, await Promise.all(all));
  }
  await refuse();
  const answers: Answers = {};
  await Promise.all(
    apps.map(async ([name, { call }, atomic]) => {
      await inTurn();
      answers[name] = await Promise.all(
        keysOf(name).map((key, i) =>
          answerOf(call(atomic, key, { timeoutMs }, prepared.get(name)![i] as never)),
        ),
      );
    }),
  );
  return answers;
}

/** Asserts that each of three calls came to what one by itself came to. */
export function expectSameForAll(alone: Answers, together: Answers): void {
  const expected = Object.entries(alone).map(([name, [answer]]) => [name, [answer, answer, answer]]);
  expect(together).toEqual(Object.fromEntries(expected));
}
