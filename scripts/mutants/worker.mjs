import { createHash } from 'node:crypto';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { runCLI } from 'jest';
import jestConfig from '../../jest.config.mjs';
import { marks } from './sample.mjs';

/**
 * Runs one spec file after the other in one warm process, in the tree of its first argument. Each message is
 * `{ spec, tests, matching, counts, bails }`; the answer tells what became of its tests.
 */
const tree = process.argv[2];
const config = JSON.stringify({
  ...jestConfig,
  rootDir: tree,
  // Jest keeps what it has compiled by path, and this tree goes.
  cacheDirectory: join(tree, '..', 'compiled'),
  testEnvironment: join(import.meta.dirname, 'environment.mjs'),
  reporters: [],
  // A time-out decides nothing before the spec has passed without the mutant.
  testTimeout: 60_000,
});
// A process that cannot even do this hangs in an endless loop.
setInterval(() => process.send?.({ beat: true }), 1_000).unref();

process.on('disconnect', () => process.exit());

process.on('message', (request) => void answer(request));

async function answer(request) {
  const run = newRun(request);
  globalThis.mutantRun = run;
  try {
    const { results } = await runCLI(
      {
        $0: 'jest',
        _: [request.spec],
        config,
        runTestsByPath: true,
        runInBand: true,
        silent: true,
        watchman: false,
        passWithNoTests: true,
      },
      [tree],
    );
    const [file] = results.testResults;
    const failed = (file?.testResults ?? []).filter(({ status }) => status === 'failed');
    process.send({
      rss: process.memoryUsage.rss(),
      passed: results.numPassedTests,
      failures: failed.map(({ fullName, failureMessages }) => ({
        test: fullName,
        message: failureMessages.join('\n').slice(0, 2_000),
      })),
      // The file could not be loaded, or a hook at its end failed.
      broken: file?.testExecError ? (file.failureMessage ?? 'not loaded').slice(0, 2_000) : null,
      times: run.times,
      coverage: run.counts ? { ...run.coverage, ofLua: run.ofLua } : null,
    });
  } catch (error) {
    process.send({ error: String(error?.stack ?? error) });
  }
}

/** A test has this, and several times as long as it takes without a mutant. */
const PATIENCE_MS = 8_000;

/** `tests` are names, each with the milliseconds that it takes without a mutant. */
function newRun({ tests, matching, counts = false, bails = false }) {
  const wanted = tests && new Map(tests);
  let current = null;
  const times = [];
  const ofLua = {};
  return {
    counts,
    bails,
    times,
    ofLua,
    coverage: null,
    isWanted: (name) => (wanted ? wanted.has(name) : !matching || name.includes(matching)),
    usualMs: (name) => wanted?.get(name),
    timeoutOf: (name) => (wanted?.has(name) ? PATIENCE_MS + 6 * wanted.get(name) : undefined),
    failed: (test, error) => {
      if (bails) process.send({ failed: { test, message: inspect(error).slice(0, 2_000) } });
    },
    done: (name, ms) => times.push([name, ms]),
    reaches: (name) => (current = name),
    sent: (ids) => {
      const into = (ofLua[current ?? ''] ??= {});
      for (const id of ids) into[id] = 1;
    },
  };
}

// Redis is sent the text of a script once, and its hash from then on.
const idsBySha = new Map();
// oxlint-disable-next-line typescript/unbound-method -- called with the socket as `this`
const { write } = Socket.prototype;
Socket.prototype.write = function (chunk, ...rest) {
  if (globalThis.mutantRun?.counts && (typeof chunk === 'string' || Buffer.isBuffer(chunk))) {
    const text = typeof chunk === 'string' ? chunk : chunk.toString('latin1');
    for (const sha of shasIn(text)) if (idsBySha.has(sha)) globalThis.mutantRun.sent(idsBySha.get(sha));
  }
  return write.call(this, chunk, ...rest);
};

function* shasIn(text) {
  for (const [, sha] of text.matchAll(/\r\nEVALSHA\r\n\$40\r\n([0-9a-f]{40})/gi)) yield sha;
  for (const match of text.matchAll(/\r\n(?:EVAL|LOAD)\r\n\$(\d+)\r\n/gi)) {
    const start = match.index + match[0].length;
    const script = text.slice(start, start + Number(match[1]));
    const sha = createHash('sha1').update(script).digest('hex');
    if (!idsBySha.has(sha))
      idsBySha.set(
        sha,
        [...script.matchAll(marks)].map(([, id]) => id),
      );
    yield sha;
  }
}
