import type { Attempt, Case, Ending } from './cases.js';

/**
 * Returns cases that are simpler than this one by one thing each, the greatest simplifications
 * first.
 */
export function simpler(plan: Case): Case[] {
  const { route, attempts, around, client } = plan;
  const all: Case[] = [
    { ...plan, around: { ...around, interceptors: [] } },
    { ...plan, attempts: attempts.slice(0, 1) },
    ...around.interceptors.map((_, index) => ({
      ...plan,
      around: { ...around, interceptors: around.interceptors.toSpliced(index, 1) },
    })),
    ...Object.entries(SIMPLEST_AROUND).map(([name, value]) => ({
      ...plan,
      around: { ...around, [name]: value },
    })),
    ...Object.entries(SIMPLEST_CLIENT).map(([name, value]) => ({
      ...plan,
      client: { ...client, [name]: value },
    })),
    ...Object.entries(SIMPLEST_ROUTE).map(([name, value]) => ({
      ...plan,
      route: { ...route, [name]: value },
    })),
    ...attempts.flatMap((attempt, index) =>
      simplerAttempts(attempt).map((each) => ({ ...plan, attempts: attempts.with(index, each) })),
    ),
  ];
  const own = JSON.stringify(plan);
  return all.filter((each) => JSON.stringify(each) !== own);
}

const SIMPLEST_AROUND = {
  compress: false,
  answersAtPoint: false,
  before: 'nothing',
  filterStatus: undefined,
};
const SIMPLEST_CLIENT = {
  leaves: 'never',
  next: 'none',
  http: '1.1',
  acceptsGzip: false,
  retryAcceptsGzip: false,
};
const SIMPLEST_ROUTE = { stream: false, onError: 'default', onResponse: 'default' };

function simplerAttempts(attempt: Attempt): Attempt[] {
  const { ending } = attempt;
  return [
    { ...attempt, turns: 0 },
    { ...attempt, reachesPoint: false },
    { ...attempt, status: undefined },
    ...simplerEndings(ending).map((each) => ({ ...attempt, ending: each })),
  ];
}

function simplerEndings(ending: Ending): Ending[] {
  if (ending.do === 'return')
    return [
      { ...ending, value: 'object' },
      { ...ending, size: 1 },
    ];
  if (ending.do === 'throw') return [{ ...ending, error: { kind: 'plain' } }];
  if (ending.do === 'stream')
    return [
      { ...ending, source: 'ends' },
      { ...ending, hasLength: false },
      { ...ending, size: 700 },
    ];
  if (ending.do !== 'respond') return [];
  return [
    { ...ending, thenThrows: undefined },
    { ...ending, thenThrows: ending.thenThrows && { kind: 'plain' } },
    { ...ending, late: false },
    { ...ending, style: 'send' },
    { ...ending, source: 'ends' },
    { ...ending, size: 1 },
    { ...ending, status: 200 },
  ];
}
