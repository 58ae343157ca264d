import { setMaxListeners } from 'node:events';
import { Agent, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import type { Answer, Counts, LabRequest, Outcome, Side } from './scenarios/scenario.js';
import type { Worker } from './workers.js';

const PREFIXES: Record<Side, string> = { naive: '/naive', byHand: '/by-hand', atomic: '' };

/** One side's requests so far, and how they ended. */
export class Tally {
  readonly outcomes: Record<Outcome, number> = { accepted: 0, conflict: 0, failed: 0, unanswered: 0 };
  readonly latenciesMs: number[] = [];
  /** Calls that are over; a call may take several requests. */
  callsDone = 0;
  /** Requests, answered or not. */
  sent = 0;
  #reported = 0;

  count(outcome: Outcome, latencyMs: number): void {
    this.outcomes[outcome] += 1;
    this.latenciesMs.push(latencyMs);
  }

  get counts(): Counts {
    const { accepted, conflict, failed } = this.outcomes;
    return { sent: this.sent, accepted, conflict, failed };
  }

  /** Latency of the requests since the previous call; null when there were none. */
  latestP95Ms(): number | null {
    const latest = this.latenciesMs.slice(this.#reported);
    this.#reported = this.latenciesMs.length;
    return percentile(latest, 0.95);
  }
}

export function percentile(values: readonly number[], part: number): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[Math.ceil(sorted.length * part) - 1];
  return value === undefined ? null : Math.round(value * 10) / 10;
}

/**
 * Sends over HTTP, as a load balancer would: to each process that is alive in turn. By `node:http`
 * on kept connections, because the callers share the machine with what they measure: `fetch` costs
 * more than the shop's own work.
 */
export function requester(
  workers: readonly Worker[],
  tallies: Record<Side, Tally>,
  signal: AbortSignal,
): (side: Side, request: LabRequest) => Promise<Answer> {
  // Each request that is under way has one listener.
  setMaxListeners(0, signal);
  const agent = new Agent({ keepAlive: true });
  let turn = 0;
  return async (side, { method, path, body, headers, to, counted = true }) => {
    const alive = workers.filter((worker) => worker.alive);
    const worker = to ? workers.at(to === 'first process' ? 0 : -1) : alive[turn++ % alive.length];
    if (!worker) throw new Error('None of the processes is left');
    const began = performance.now();
    if (counted) tallies[side].sent += 1;
    const text = body && JSON.stringify(body);
    const answer = await send(
      `${worker.url}${PREFIXES[side]}${path}`,
      {
        agent,
        method,
        signal,
        headers: {
          ...(text && { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) }),
          ...headers,
        },
      },
      text,
    );
    if (counted) tallies[side].count(answer.outcome, performance.now() - began);
    return answer;
  };
}

async function send(url: string, options: RequestOptions, body: string | undefined): Promise<Answer> {
  let response: IncomingMessage;
  let text = '';
  try {
    response = await new Promise<IncomingMessage>((resolve, reject) => {
      httpRequest(url, options, resolve).on('error', reject).end(body);
    });
    for await (const chunk of response.setEncoding('utf8')) text += chunk as string;
  } catch {
    // Its process was killed, or the run is over: its outcome is unknown.
    return { outcome: 'unanswered' };
  }
  const { statusCode = 0, headers } = response;
  const isOk = statusCode >= 200 && statusCode < 300;
  const outcome = isOk ? 'accepted' : statusCode === 409 ? 'conflict' : 'failed';
  const isJson = /^application\/(?:\w+\+)?json\b/.test(headers['content-type'] ?? '');
  return { outcome, ...(isJson && text && { body: JSON.parse(text) as Record<string, unknown> }) };
}
