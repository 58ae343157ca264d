import type { Redis } from 'ioredis';
import type { TransactionService } from 'nestjs-atomic-redis';
import { examplesIn, extract, sectionOf } from '../docs/examples.js';

/**
 * The two programs of a section of docs/mistakes.md, the wrong one and the right one, as they stand
 * there. Each is what its block exports. Call it inside `describe`.
 */
export function useMistake<Wrong, Right>(heading: string): { readonly wrong: Wrong; readonly right: Right } {
  let programs: [Wrong, Right] | undefined;
  let remove = (): void => undefined;

  beforeAll(() => {
    const blocks = examplesIn(sectionOf('docs/mistakes.md', heading));
    if (blocks.length !== 2)
      throw new Error(`"${heading}" must have a wrong and a right example, not ${blocks.length}`);
    const extracted = extract(`mistake-${heading.replaceAll(/\W+/g, '-')}`, blocks);
    remove = extracted.remove;
    // oxlint-disable-next-line typescript/no-require-imports -- the files were made a moment ago
    programs = extracted.files.map((file) => require(file) as unknown) as [Wrong, Right];
  });

  afterAll(() => remove());

  return {
    get wrong() {
      return programs![0];
    },
    get right() {
      return programs![1];
    },
  };
}

/**
 * The same client, except that something else happens between the reply to `command` and its
 * caller's next step.
 */
export function interrupted(client: Redis, command: 'get' | 'incr' | 'decr', then: () => unknown): Redis {
  return new Proxy(client, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      if (name !== command) return value.bind(target) as unknown;
      return async (...args: unknown[]) => {
        const reply: unknown = await (value as (...args: unknown[]) => unknown).apply(target, args);
        await then();
        return reply;
      };
    },
  });
}

/**
 * The same service, but that in each attempt something else happens between the end of the work and
 * EXEC.
 */
export const meddledWith = (
  transactions: TransactionService,
  meddle: (attempt: number) => unknown,
): TransactionService => {
  const run: TransactionService['run'] = async (keys, work, options) => {
    let attempt = 0;
    return await transactions.run(
      keys,
      async (tx) => {
        const result = await work(tx);
        await meddle(++attempt);
        return result;
      },
      options,
    );
  };
  return { run } as TransactionService;
};
