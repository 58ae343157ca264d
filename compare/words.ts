import { LEASE_MS, type JobName } from './tool.js';
import type { Outcome } from './verdict.js';

/** Titles and descriptions of the jobs. */
export const JOBS: Record<JobName, { title: string; about: string }> = {
  'run-once': {
    title: 'Run once per key',
    about:
      'A client asks under one key until it is answered, at two processes in turn, and then once more. It does not return to a process that gives no answer before the fault is over. The work has one effect at a third party that does not know keys.',
  },
  'read-modify-write': {
    title: 'Read, decide, write',
    about:
      'One process adds an entry to a value that it has read, and is struck. Another adds two meanwhile, and one at the end, which it calls until it is told ok.',
  },
  counter: {
    title: 'Counter',
    about:
      'One process adds 1 and is struck. Another adds 1 twice meanwhile, and once at the end, which it calls until it is told ok. No other call is repeated by its caller.',
  },
  lock: {
    title: 'Write under a lock',
    about: `The same as reading, deciding and writing, under a lock with a lease of ${LEASE_MS / 1_000} s. Our row writes by WATCH and EXEC under its permit, as our documentation has it. The other rows write by a bare SET under their lock.`,
  },
  'rate-limit': {
    title: 'Rate limit',
    about:
      'One process makes a call and is struck. Another then makes four, and calls each until it is told ok. The limit lets three through in all. "Lost" is a call too many, "doubled" one too few.',
  },
  queue: {
    title: 'Queue',
    about:
      'One process pushes three jobs; it and another consume. The effect of a job is at a third party; with `completesJob`, in Redis.',
  },
};

export const WORDS: Record<Outcome | 'ok', { short: string; about: string }> = {
  ok: { short: '·', about: 'right in every run' },
  doubled: { short: 'twice', about: 'one call has its effect twice (**doubled**)' },
  lost: { short: 'lost', about: 'the caller got success, but the effect is missing (**lost**)' },
  'told wrongly': {
    short: 'wrong',
    about:
      'told "not applied" by an error that states outcomes, and it is; or two answers to one key that differ (**told wrongly**)',
  },
  leaked: { short: 'leak', about: 'a key stays in Redis that nothing will remove (**leaked**)' },
  stuck: { short: 'stuck', about: 'nobody can use the key 8 s later, or a call has no answer (**stuck**)' },
  held: {
    short: 'held',
    about: 'nobody can use the key until an operator frees it, and the error says so (**held**)',
  },
  unknown: { short: '?', about: 'an error from which the caller cannot know if it is done (**unknown**)' },
  refused: { short: 'no', about: 'the error says that nothing was done, and that is true (**refused**)' },
};

export const SHORT_FAULTS: Record<string, string> = {
  none: 'none',
  'lost-reply': 'reply',
  'late-copy': 'late',
  kill: 'kill',
  'kill-before': 'kill early',
  'stopped-after': 'stop',
  'stopped-before': 'stop early',
  stall: 'stall',
  failover: 'failover',
  'failover-lossy': 'lossy',
  restart: 'restart',
  slow: 'slow',
  oom: 'memory',
  'script-flush': 'flush',
  'client-gone': 'client',
};
