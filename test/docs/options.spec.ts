import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { resolveOptions } from '../../lib/atomic-redis.options.js';
import { idempotencyDefaults } from '../../lib/idempotency/idempotency.options.js';
import { shippedClaimMs } from '../support/patient-claims.js';
import { textOf } from './examples.js';

describe('docs/options.md', () => {
  it('[DOC-6] agrees with the types', () => {
    expect(() =>
      execFileSync(process.execPath, [resolve('scripts/docs-options.mjs'), '--check'], { stdio: 'pipe' }),
    ).not.toThrow();
  }, 120_000);

  it('[DOC-6] states the real defaults of the module', () => {
    idempotencyDefaults.timeoutMs = shippedClaimMs;
    const { transactions, idempotency, counters, queues, ...module } = resolveOptions({
      connection: 'redis://localhost:6379',
      namespace: 'shop:',
    });
    const sections: Record<string, object[]> = {
      AtomicRedisOptions: [module],
      'AtomicRedisOptions.transactions': [transactions],
      'AtomicRedisOptions.idempotency': [idempotency],
      'AtomicRedisOptions.counters': [counters],
      'AtomicRedisOptions.queues': [queues],
    };
    const wrong: string[] = [];
    let compared = 0;
    for (const [name, [actual]] of Object.entries(sections)) {
      const [, section] = textOf('docs/options.md').split(`\n## ${name}\n`);
      const entries = section!
        .split(/^## /m, 1)[0]!
        .matchAll(/^- \*\*`(\w+)`\*\* \(`number`, (?:\w+, )?default\s(\d+)/gm);
      for (const [, option, told] of entries) {
        compared += 1;
        const has = (actual as Record<string, unknown>)[option!];
        if (has !== Number(told)) wrong.push(`${name}.${option}: ${told}, and the module has ${String(has)}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(compared).toBeGreaterThan(15);
  });

  it('[DOC-6] answers each of the first questions on one page that the index names', () => {
    const [, questions] = textOf('docs/README.md').split('\n## How do I …?\n');
    const pages = [...questions!.split(/^## /m, 1)[0]!.matchAll(/\]\(([\w-]+\.md)\)/g)].map(
      ([, page]) => page,
    );
    expect(pages).toEqual(['testing.md', 'stuck-keys.md', 'deploys.md', 'limits.md', 'migration.md']);
  });
});
