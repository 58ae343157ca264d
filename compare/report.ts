import { format } from 'prettier';
import { nameOf, worstOf, type CellResult } from './cell.js';
import { FAULTS, type Fault } from './faults.js';
import { PEERS, type Peer } from './peers.js';
import type { Saved } from './saved.js';
import { unexpectedOf } from './short.js';
import { LEASE_MS, type JobName } from './tool.js';
import { OUTCOMES } from './verdict.js';
import { JOBS, SHORT_FAULTS, WORDS } from './words.js';

interface Origin {
  readonly saved: Saved;
  /** Cells that no later run has replaced. */
  readonly cells: readonly CellResult[];
}

/**
 * Returns the text of docs/comparison.md.
 * @param all runs, the first one first; a cell of a later one replaces that of an earlier one
 */
export async function render(all: readonly Saved[]): Promise<string> {
  const { seed, runs } = all[0]!;
  if (all.some((saved) => saved.seed !== seed || saved.runs !== runs))
    throw new Error('These runs have different seeds, or different numbers of runs');
  const origins = originsOf(all);
  const results = origins.flatMap(({ cells }) => cells);
  const by = new Map(results.map((result) => [nameOf(result), result]));
  const faults = FAULTS;
  const servers = Object.assign({}, ...all.map((saved) => saved.servers)) as Saved['servers'];
  const serverOf = ({ job, id }: Peer): string | undefined => servers[`${job}/${id}`];
  const versionsOf = (name: string): string =>
    [...new Set(all.map(({ versions }) => versions[name]).filter(Boolean))].join(' and ');
  const peers = PEERS.filter((peer) => serverOf(peer) !== undefined);
  const missing = PEERS.filter((peer) => serverOf(peer) === undefined);
  const of = (peer: Peer, fault: Fault): CellResult | undefined => by.get(nameOf({ peer, fault }));
  const jobs = Object.keys(JOBS) as JobName[];

  const summary = table(
    ['', ...faults.map(({ id }) => SHORT_FAULTS[id]!)],
    jobs.flatMap((job) => [
      [`**${JOBS[job].title}**`, ...faults.map(() => '')],
      ...peers
        .filter((peer) => peer.job === job)
        .map((peer) => [
          peer.name,
          ...faults.map((fault) => {
            const result = of(peer, fault);
            if (!result) return fault.jobs.includes(job) ? 'not run' : '-';
            const { short } = WORDS[worstOf(result)];
            return result.notStruck === 0 ? short : `${short} ${runs - result.notStruck}/${runs}`;
          }),
        ]),
    ]),
  );

  const serverNames = [...new Set(peers.filter(({ needs }) => !needs).map(serverOf))].join(', ');
  const otherNames = [...new Set(peers.filter(({ needs }) => needs).map(serverOf))].join(', ');
  const text = `# The same faults, for us and for what you use today

Written by \`npm run compare\` with seed ${seed}: ${runs} runs a cell, each with one real fault. ${serverNames}; ${otherNames} for the commands that need it.
The seed chooses the command that is struck, the delays and the moments; processes and networks choose the rest.

${provenance(origins)}

## What breaks

The worst of ${runs} runs. \`-\` stands where a fault does not apply. Read the row of what you use.
A cell does not say if that was one run or all of them: [the counts](#counts) do.
The third party of the row with a probe can be asked by key. No other row has such a third party.

${summary}

${list([...OUTCOMES, 'ok' as const].map((word) => `\`${WORDS[word].short}\`: ${WORDS[word].about}.`))}${results.some(({ notStruck }) => notStruck > 0) ? `\n\nA number such as 7/${runs} tells in how many runs the fault struck, where it did not strike in all.` : ''}

${summary.includes('not run') ? '`not run`: this cell has no result that counts yet.\n\n' : ''}## Where we break

${ours(results)}

## The faults

${list(faults.map(({ id, title, about }) => `**${SHORT_FAULTS[id]}** (${title}): ${about}`))}

## Counts

In how many of ${runs} runs it happened. One run may count in several.

${jobs.map((job) => section(job, peers, faults, of, serverOf, versionsOf)).join('\n\n')}

## How it is measured

- **Real faults.** Redis is real. A TCP proxy that reads the protocol stands before each process. Processes are
  killed by SIGKILL and stopped by SIGSTOP. Leases are ${LEASE_MS / 1_000} s wherever a peer lets its user choose.
- **Each peer as its documentation recommends**, at the version that package-lock.json pins. Rows that are written
  by us, as commonly seen, follow no single source: [the counts](#counts) mark them. The code of a row is the file
  that it is linked to, and short. Leases apart, options are those of the documentation, or the defaults.
- **ioredis sends again.** After a reconnect it repeats the commands that had no answer
  (\`autoResendUnfulfilledCommands\`, on by default). Most \`twice\` of the rows on ioredis come from that.
- **Effects are counted elsewhere**: in a Redis of the harness that no fault reaches, or in the value itself.
  What callers were told is compared with them once all have come back and all that is late has arrived.
- **The same seed for all**: a run strikes each peer by the same random numbers. Which command is struck is chosen
  among those that the peer's call takes without a fault.
- **A cell without a fault** (\`none\`) is run first. ${control(results)}
- **Unknown is not a fault.** The caller must check, or retry and risk a second effect. Without an idempotency key,
  an error of a connection says just that.

One cell again, or one run of it: \`npm run compare -- --seed ${seed} --runs ${runs} --only counter/ioredis-lua/lost-reply --run 3\`.
It prints what the callers were told and what was found. \`npm run compare -- --help\` lists the rest.
${missing.map(({ name, needs }) => `\n${name} was not run: no server here has ${needs}.`).join('')}
`;
  return await format(text, { parser: 'markdown', proseWrap: 'always', printWidth: 100 });
}

function section(
  job: JobName,
  all: readonly Peer[],
  faults: readonly Fault[],
  of: (peer: Peer, fault: Fault) => CellResult | undefined,
  serverOf: (peer: Peer) => string | undefined,
  versionsOf: (name: string) => string,
): string {
  const peers = all.filter((peer) => peer.job === job);
  const rows = faults
    .filter(({ jobs }) => jobs.includes(job))
    .map((fault) => [
      SHORT_FAULTS[fault.id]!,
      ...peers.map((peer) => {
        const result = of(peer, fault);
        return result ? countsOf(result) : 'not run';
      }),
    ]);
  const code = peers.map((peer) => {
    const versions = peer.packages.map((name) => `${name} ${versionsOf(name)}`).join(', ') || 'this package';
    const server = peer.needs ? `, on ${serverOf(peer)}` : '';
    return `[${peer.name}](../compare/peers/${job}/${peer.id}.ts): ${versions}${server}${peer.about ? `. ${peer.about}` : ''}`;
  });
  return `### ${JOBS[job].title}\n\n${JOBS[job].about}\n\n${list(code)}\n\n${table(
    ['', ...peers.map(({ name }) => name.replace(/, ioredis$|^@node-idempotency\//, ''))],
    rows,
  )}`;
}

function countsOf({ counts, runs, notStruck }: CellResult): string {
  const found = OUTCOMES.filter((outcome) => counts[outcome] > 0).map(
    (outcome) => `${counts[outcome]} ${outcome}`,
  );
  return [...found, ...(notStruck > 0 ? [`${notStruck} of ${runs} not struck`] : [])].join(', ') || '·';
}

/** Lists every cell of ours that is not right, and the reason. */
function ours(results: readonly CellResult[]): string {
  const wrong = results.filter((result) => result.peer.isOurs && worstOf(result) !== 'ok').toSorted(inOrder);
  if (wrong.length === 0) return 'Nowhere in this run.';
  return list(
    wrong.map((result) => {
      const { peer, fault } = result;
      const unexpected = unexpectedOf(result);
      const why =
        unexpected.length > 0
          ? `**unexpected: ${unexpected.join(', ')}**`
          : (peer.documented?.[fault.id]?.why ?? peer.remarks?.[fault.id] ?? 'the error says so');
      return `${peer.name}, ${fault.title}: ${countsOf(result)}; ${why}.`;
    }),
  );
}

function inOrder(a: CellResult, b: CellResult): number {
  const place = ({ peer, fault }: CellResult): number =>
    PEERS.indexOf(peer) * FAULTS.length + FAULTS.indexOf(fault);
  return place(a) - place(b);
}

function originsOf(all: readonly Saved[]): Origin[] {
  const cells = PEERS.flatMap((peer) => FAULTS.map((fault) => ({ peer, fault })));
  return all.map((saved, at) => ({
    saved,
    cells: cells.flatMap((cell) => {
      const name = nameOf(cell);
      const found = all.slice(at + 1).some((later) => name in later.cells) ? undefined : saved.cells[name];
      return found ? [{ ...cell, ...found }] : [];
    }),
  }));
}

const alone = (cells: number): string => (cells === 1 ? '1 cell was' : `${cells} cells were`);

/** Tells which run each cell comes from. */
function provenance(origins: readonly Origin[]): string {
  const [first, ...others] = origins.filter(({ cells }) => cells.length > 0);
  const of = ({ saved }: Origin): string =>
    `commit ${saved.commit}, ${saved.date}, Node ${saved.node}, ${saved.machine}`;
  return `${list([
    `${first!.cells.length} cells are of one run of ${first!.saved.minutes} minutes: ${of(first!)}.`,
    ...others.map(
      (origin) => `${alone(origin.cells.length)} run alone afterwards: ${of(origin)}: ${namesOf(origin)}.`,
    ),
  ])}\n\nLater changes of \`lib\` are not in it.`;
}

function namesOf({ cells }: Origin): string {
  return PEERS.filter((peer) => cells.some((cell) => cell.peer === peer))
    .map((peer) => {
      const own = cells.filter((cell) => cell.peer === peer);
      const isAll = own.length === FAULTS.filter(({ jobs }) => jobs.includes(peer.job)).length;
      return `${peer.name}: ${isAll ? 'all' : own.map(({ fault }) => SHORT_FAULTS[fault.id]).join(', ')}`;
    })
    .join('; ');
}

function control(results: readonly CellResult[]): string {
  const wrong = results.filter((result) => result.fault.id === 'none' && worstOf(result) !== 'ok');
  if (wrong.length === 0) return 'All were right.';
  const unprotected = wrong.filter(({ peer }) => peer.isUnprotected);
  const others = wrong.filter(({ peer }) => !peer.isUnprotected);
  return [
    `Wrong even without a fault: ${wrong.map(({ peer }) => peer.name).join(', ')}.`,
    ...unprotected.map(({ peer }) => `${peer.name} has no protection; its row is shown for comparison.`),
    ...others.map(({ peer }) => `**The row of ${peer.name} counts for nothing.**`),
  ].join(' ');
}

const list = (items: readonly string[]): string => items.map((item) => `- ${item}`).join('\n');

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
