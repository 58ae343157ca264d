import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startRedisServer } from 'nestjs-atomic-redis/testing';
import { nameOf, runCells, worstOf, type Cell, type CellResult } from './cell.js';
import { FAULTS } from './faults.js';
import { PEERS, type Peer } from './peers.js';
import { render } from './report.js';
import { commitOfNow, load, save, type Saved } from './saved.js';
import { serverFor } from './servers.js';
import { complaint, SHORT } from './short.js';
import { OUTCOMES } from './verdict.js';

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      runs: { type: 'string' },
      run: { type: 'string' },
      only: { type: 'string', multiple: true, default: [] },
      lanes: { type: 'string', default: '8' },
      short: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      save: { type: 'string' },
      from: { type: 'string', multiple: true },
    },
  });
  if (values.from !== undefined) {
    await write(load(values.from));
    return 0;
  }
  const seed = Number(values.seed);
  const count = Number(values.runs ?? (values.short ? 2 : 10));
  const runs = values.run === undefined ? [...Array(count).keys()] : [Number(values.run)];
  const all = PEERS.flatMap((peer) =>
    FAULTS.filter(({ jobs }) => jobs.includes(peer.job)).map((fault): Cell => ({ peer, fault })),
  );
  const names = new Set(all.map(nameOf));
  const misspelt = Object.keys(SHORT).filter((name) => !names.has(name));
  if (misspelt.length > 0) throw new Error(`No such cell: ${misspelt.join(', ')}`);
  const cells = all
    .filter((cell) => values.only.length === 0 || values.only.some((only) => isNamed(cell, only)))
    .filter((cell) => !values.short || nameOf(cell) in SHORT);
  if (cells.length === 0) throw new Error('No cell has such a name');
  const commit = commitOfNow();
  const began = performance.now();

  const witness = await startRedisServer();
  const results: CellResult[] = [];
  const servers = new Map<Peer, string>();
  const missing = new Set<Peer>();
  const broken: Cell[] = [];
  try {
    const waiting = groupsOf(cells);
    const lane = async (): Promise<void> => {
      for (let group = waiting.shift(); group; group = waiting.shift()) {
        const { peer } = group[0]!;
        const server = await serverFor(peer);
        if (!server) {
          missing.add(peer);
          continue;
        }
        servers.set(peer, server.name);
        const { binary } = server;
        const options = { seed, runs, binary, witnessUrl: witness.url };
        // A cell whose harness fails is tried once more, on new processes.
        for (let left = group, hasFailed = false; left.length > 0;) {
          try {
            for await (const { result, seconds } of timed(runCells(left, options))) {
              results.push(result);
              print(result, seed, seconds);
              [left, hasFailed] = [left.slice(1), false];
            }
          } catch (error) {
            console.log(`${nameOf(left[0]!)}: the harness failed`, error);
            if (hasFailed) broken.push(left.shift()!);
            hasFailed = !hasFailed;
          }
        }
      }
    };
    await Promise.all(Array.from({ length: Number(values.lanes) }, lane));
  } finally {
    await witness.stop();
  }
  for (const { name, needs } of missing) console.log(`${name}: not run, no server here has ${needs}`);
  const minutes = Math.ceil((performance.now() - began) / 60_000);
  const saved = save(results, { seed, runs: count, minutes, servers, commit });
  if (values.save !== undefined) writeFileSync(values.save, JSON.stringify(saved));
  if (values.write) await write([saved]);
  const complain = (result: CellResult): string | undefined => complaint(result, values.short);
  const failed = results.filter(complain);
  for (const result of failed) console.log(`FAILED ${nameOf(result)}: ${complain(result)}`);
  for (const cell of broken) console.log(`FAILED ${nameOf(cell)}: the harness failed`);
  const absent = values.short ? cells.length - results.length - broken.length : 0;
  if (absent > 0) console.log(`FAILED: ${absent} of ${cells.length} cells were not run`);
  const failures = failed.length + broken.length + absent;
  console.log(`${results.length - failed.length} passed, ${failures} failed`);
  return failures === 0 ? 0 : 1;
}

async function* timed(results: AsyncIterable<CellResult>) {
  let began = performance.now();
  for await (const result of results) {
    yield { result, seconds: (performance.now() - began) / 1_000 };
    began = performance.now();
  }
}

async function write(saved: readonly Saved[]): Promise<void> {
  writeFileSync(join(__dirname, '../docs/comparison.md'), await render(saved));
}

/** Cells that share processes and servers. */
function groupsOf(cells: readonly Cell[]): Cell[][] {
  const groups = new Map<string, Cell[]>();
  for (const cell of cells) {
    const { job, id } = cell.peer;
    const name = `${job} ${id} ${cell.fault.needsPair ? 'pair' : 'alone'}`;
    groups.set(name, [...(groups.get(name) ?? []), cell]);
  }
  return [...groups.values()];
}

function isNamed(cell: Cell, only: string): boolean {
  const parts = nameOf(cell).split('/');
  return only.split('/').every((part, i) => part === '*' || part === parts[i]);
}

function print(result: CellResult, seed: number, seconds: number): void {
  const counts = OUTCOMES.filter((outcome) => result.counts[outcome] > 0).map(
    (outcome) => `${result.counts[outcome]} ${outcome}`,
  );
  const notStruck = result.notStruck > 0 ? `, ${result.notStruck} not struck` : '';
  console.log(
    `${nameOf(result)}: ${worstOf(result)} (${counts.join(', ') || 'nothing'} in ${result.runs} runs${notStruck}, ${seconds.toFixed(0)} s)`,
  );
  const [first] = result.failures;
  if (!first) return;
  console.log(
    `    npm run compare -- --seed ${seed} --only ${nameOf(result)} --run ${first.run}: ${first.how}`,
  );
  for (const note of first.notes.slice(0, 2)) console.log(`    ${note}`);
}

void main().then((code) => process.exit(code));
