import { parseHistory, type HistoryOutcome, type Operation } from './history.js';
import { judgeHistory, wrongInHistory } from './judge.js';
import { checkEachKey, checkLinearizability, type LinearizabilityOptions } from './linearizability.js';
import { checkListAppend, type ListAppendOptions, type Step } from './list-append.js';
import { boundedCounter, register } from './models.js';

/** An operation from one moment to another; without a result only its outcome is known. */
type Line = readonly [startUs: number, endUs: number, name: string, args: unknown, result: unknown];

const outcomes = new Set<unknown>(['applied', 'not-applied', 'unknown']);

const historyOf = (lines: readonly Line[]): Operation[] =>
  lines.map(([startUs, endUs, name, args, result], index) => {
    const outcome = (outcomes.has(result) ? result : 'ok') as HistoryOutcome;
    const told = outcome === 'unknown' ? Infinity : endUs;
    const ok = outcome === 'ok' && { result };
    return { id: `T${index + 1}`, process: `${index}`, name, args, startUs, endUs: told, outcome, ...ok };
  });

const swapped = (current: string | null) => ({ swapped: true, current });
const refused = (current: string | null) => ({ swapped: false, current });
const added = (value: number, by: number) => ({ value, applied: by, limited: false });

describe('the search for a linearization', () => {
  type Case = [title: string, lines: Line[], isGood: boolean, options?: LinearizabilityOptions];

  const registers: Case[] = [
    [
      'each read returns the previous write',
      [
        [0, 1, 'swap', ['a'], null],
        [2, 3, 'read', [], 'a'],
        [4, 5, 'compareAndSet', ['a', 'b'], swapped('b')],
        [6, 7, 'compareAndSet', ['a', 'c'], refused('b')],
      ],
      true,
    ],
    [
      'two concurrent writes take effect in either order',
      [
        [0, 9, 'swap', ['a'], 'b'],
        [0, 9, 'swap', ['b'], null],
        [10, 11, 'read', [], 'a'],
      ],
      true,
    ],
    [
      'a read is stale',
      [
        [0, 1, 'swap', ['a'], null],
        [2, 3, 'swap', ['b'], 'a'],
        [4, 5, 'read', [], 'a'],
      ],
      false,
    ],
    [
      'two readers see one write in opposite orders',
      [
        [0, 20, 'swap', ['a'], null],
        [1, 2, 'read', [], 'a'],
        [3, 4, 'read', [], null],
      ],
      false,
    ],
    [
      'two comparisons with one value succeed',
      [
        [0, 9, 'compareAndSet', [null, 'a'], swapped('a')],
        [0, 9, 'compareAndSet', [null, 'b'], swapped('b')],
      ],
      false,
    ],
    [
      'a write that was not applied is read',
      [
        [0, 1, 'swap', ['a'], 'not-applied'],
        [2, 3, 'read', [], 'a'],
      ],
      false,
    ],
    [
      'an applied write is not read, though its answer was lost',
      [
        [0, 1, 'swap', ['a'], 'applied'],
        [2, 3, 'read', [], null],
      ],
      false,
    ],
    [
      'an unknown write takes effect late',
      [
        [0, 1, 'swap', ['a'], 'unknown'],
        [2, 3, 'read', [], null],
        [4, 5, 'swap', ['b'], null],
        [6, 7, 'read', [], 'a'],
      ],
      true,
    ],
    [
      'an unknown write never takes effect',
      [
        [0, 1, 'swap', ['a'], 'unknown'],
        [2, 3, 'read', [], null],
      ],
      true,
    ],
    [
      'an unknown write takes effect twice',
      [
        [0, 1, 'swap', ['a'], 'unknown'],
        [2, 3, 'swap', ['b'], 'a'],
        [4, 5, 'swap', ['c'], 'a'],
      ],
      false,
    ],
    [
      'an unknown write takes effect before it begins',
      [
        [0, 1, 'read', [], 'a'],
        [2, 3, 'swap', ['a'], 'unknown'],
      ],
      false,
    ],
    [
      'an acknowledged write is lost in a window of loss',
      [
        [0, 1, 'swap', ['a'], null],
        [2, 3, 'swap', ['b'], 'a'],
        [10, 11, 'read', [], 'a'],
      ],
      true,
      { losses: [{ fromUs: 2.5, toUs: 9 }] },
    ],
    [
      'a write that was answered before the window is lost',
      [
        [0, 1, 'swap', ['a'], null],
        [2, 3, 'swap', ['b'], 'a'],
        [10, 11, 'read', [], 'a'],
      ],
      false,
      { losses: [{ fromUs: 5, toUs: 9 }] },
    ],
    [
      'a write after the window is lost',
      [
        [0, 1, 'swap', ['a'], null],
        [10, 11, 'swap', ['b'], 'a'],
        [12, 13, 'read', [], 'a'],
      ],
      false,
      { losses: [{ fromUs: 5, toUs: 9 }] },
    ],
    [
      'a lost write comes back',
      [
        [0, 1, 'swap', ['a'], null],
        [6, 7, 'read', [], null],
        [10, 11, 'read', [], 'a'],
      ],
      false,
      { losses: [{ fromUs: 1, toUs: 9 }] },
    ],
    [
      'an earlier write is lost, and a later one is not',
      [
        [0, 1, 'swap', ['a'], null],
        [2, 3, 'swap', ['b'], 'a'],
        [10, 11, 'swap', ['c'], 'a'],
        [12, 13, 'read', [], 'b'],
      ],
      false,
      { losses: [{ fromUs: 0.5, toUs: 9 }] },
    ],
  ];

  it.each(registers)('judges a register whose history shows that %s', (_, lines, isGood, options = {}) => {
    const { verdict } = checkLinearizability(historyOf(lines), register, options);
    expect(verdict).toBe(isGood ? 'linearizable' : 'not-linearizable');
  });

  const counters: Case[] = [
    [
      'additions respect their bounds',
      [
        [0, 1, 'add', { by: 3, max: 4 }, added(3, 3)],
        [2, 3, 'add', { by: 3, max: 4 }, { value: 3, applied: 0, limited: true }],
        [4, 5, 'add', { by: 3, max: 4, clamps: true }, { value: 4, applied: 1, limited: true }],
        [6, 7, 'add', { by: -9, min: 0 }, { value: 4, applied: 0, limited: true }],
        [8, 9, 'read', {}, 4],
      ],
      true,
    ],
    [
      'a refused addition creates no counter',
      [
        [0, 1, 'add', { by: -1, min: 0 }, { value: 0, applied: 0, limited: true }],
        [2, 3, 'read', {}, null],
      ],
      true,
    ],
    [
      'an addition counts twice',
      [
        [0, 1, 'add', { by: 1 }, added(1, 1)],
        [2, 3, 'read', {}, 2],
      ],
      false,
    ],
    [
      'two additions get one value',
      [
        [0, 9, 'add', { by: 1 }, added(1, 1)],
        [0, 9, 'add', { by: 1 }, added(1, 1)],
      ],
      false,
    ],
    ['a bound is exceeded', [[0, 1, 'add', { by: 5, max: 4 }, added(5, 5)]], false],
    [
      'of three unknown additions two took effect, at different times',
      [
        [0, 1, 'add', { by: 1 }, 'unknown'],
        [0, 1, 'add', { by: 1 }, 'unknown'],
        [0, 1, 'add', { by: 1 }, 'unknown'],
        [2, 3, 'add', { by: 10 }, added(11, 10)],
        [4, 5, 'read', {}, 12],
      ],
      true,
    ],
    [
      'an unknown addition took effect twice',
      [
        [0, 1, 'add', { by: 1 }, 'unknown'],
        [2, 3, 'add', { by: 10 }, added(11, 10)],
        [4, 5, 'read', {}, 12],
      ],
      false,
    ],
    [
      'a lost answer was reported as not applied',
      [
        [0, 1, 'add', { by: 1 }, 'not-applied'],
        [2, 3, 'read', {}, 1],
      ],
      false,
    ],
  ];

  it.each(counters)('judges a counter whose history shows that %s', (_, lines, isGood, options = {}) => {
    const { verdict } = checkLinearizability(historyOf(lines), boundedCounter, options);
    expect(verdict).toBe(isGood ? 'linearizable' : 'not-linearizable');
  });

  it('reports where it is stuck, and stops when its budget ends', () => {
    const lines: Line[] = [
      [0, 1, 'swap', ['a'], null],
      [2, 3, 'read', [], 'b'],
    ];
    const { stuck } = checkLinearizability(historyOf(lines), register);
    expect(stuck).toMatchObject({ placed: 1, state: '"a"', candidates: [{ id: 'T2' }] });
    const { verdict } = checkLinearizability(historyOf(lines), register, { budget: 1 });
    expect(verdict).toBe('undecided');
  });

  it('judges each key separately, with thousands of operations, many of them concurrent and some unknown', () => {
    const keys = ['a', 'b'];
    const history = keys.flatMap((key) => {
      const lines = Array.from({ length: 4_000 }, (_, n): Line => {
        // Ten at a time; every hundredth is unknown, and every other one of those took effect.
        const value = n + 1 - Math.ceil(Math.floor(n / 100) / 2);
        return [n, n + 10, 'add', { by: 1 }, n % 100 === 99 ? 'unknown' : added(value, 1)];
      });
      return historyOf(lines).map((operation) => ({ ...operation, id: `${key}${operation.id}`, key }));
    });
    const verdicts = checkEachKey(history, boundedCounter);
    expect([...verdicts].map(([key, { verdict }]) => [key, verdict])).toEqual(
      keys.map((key) => [key, 'linearizable']),
    );
    const worse = history.map((operation) =>
      operation.id === 'bT251' ? { ...operation, result: added(0, 1) } : operation,
    );
    expect(checkEachKey(worse, boundedCounter).get('b')!.verdict).toBe('not-linearizable');
  });
});

describe('the search for cycles of transactions', () => {
  type Case = [
    kind: string,
    title: string,
    transactions: [number, number, Step[], ('unknown' | 'not-applied' | 'applied')?][],
    options?: ListAppendOptions,
  ];
  const append = (key: string, value: string): Step => ['append', key, value];
  const read = (key: string, values = ''): Step => ['read', key, values.split('')];

  const cases: Case[] = [
    [
      '',
      'each sees the one before',
      [
        [0, 1, [append('x', '1')]],
        [2, 3, [read('x', '1'), append('y', '2')]],
        [4, 5, [read('x', '1'), read('y', '2')]],
      ],
    ],
    [
      '',
      'a transaction reads its own appends',
      [
        [0, 1, [append('x', '1'), append('x', '2'), read('x', '12')]],
        [2, 3, [read('x', '12')]],
      ],
    ],
    [
      '',
      'an unknown write takes effect late',
      [
        [0, 1, [append('x', '1')], 'unknown'],
        [2, 3, [read('x')]],
        [4, 5, [read('x', '1')]],
      ],
    ],
    [
      '',
      'an unknown one never does',
      [
        [0, 1, [append('x', '1')], 'unknown'],
        [4, 5, [read('x')]],
      ],
    ],
    ['internal', 'a transaction does not read its own append', [[0, 1, [append('x', '1'), read('x')]]]],
    [
      'lost',
      'an acknowledged append is not there',
      [
        [0, 1, [append('x', '1')]],
        [2, 3, [read('x')]],
      ],
    ],
    [
      'lost',
      'one whose answer is not known is not there',
      [
        [0, 1, [append('x', '1')], 'applied'],
        [2, 3, [read('x')]],
      ],
    ],
    [
      'torn',
      'only one of two appends is there',
      [
        [0, 1, [append('x', '1'), append('y', '1')], 'applied'],
        [2, 3, [read('x', '1'), read('y')]],
      ],
    ],
    [
      'duplicate',
      'an append is there twice',
      [
        [0, 1, [append('x', '1')]],
        [2, 3, [read('x', '11')]],
      ],
    ],
    ['garbage', 'what is there was appended by nobody', [[2, 3, [read('x', '1')]]]],
    [
      'G1a',
      'an append is there that was told as not applied',
      [
        [0, 1, [append('x', '1')], 'not-applied'],
        [2, 3, [read('x', '1')]],
      ],
    ],
    [
      'G1b',
      'a read sees the middle of a transaction',
      [
        [0, 9, [append('x', '1'), append('x', '2')]],
        [0, 9, [read('x', '1')]],
        [10, 11, [read('x', '12')]],
      ],
    ],
    [
      'incompatible-order',
      'two reads show two orders',
      [
        [0, 9, [append('x', '1')]],
        [0, 9, [append('x', '2')]],
        [0, 9, [read('x', '21')]],
        [10, 11, [read('x', '12')]],
      ],
    ],
    [
      'G0',
      'two transactions append to two lists in opposite orders',
      [
        [0, 9, [append('x', '1'), append('y', '1')]],
        [0, 9, [append('x', '2'), append('y', '2')]],
        [10, 11, [read('x', '12'), read('y', '21')]],
      ],
    ],
    [
      'G1c',
      'two transactions read each other',
      [
        [0, 9, [append('x', '1'), read('y', '2')]],
        [0, 9, [append('y', '2'), read('x', '1')]],
      ],
    ],
    [
      'G-single',
      'a read sees one half of a transaction',
      [
        [0, 9, [append('x', '1'), append('y', '1')]],
        [0, 9, [read('x', '1'), read('y')]],
        [10, 11, [read('x', '1'), read('y', '1')]],
      ],
    ],
    [
      'G-single',
      'an update is lost',
      [
        [0, 9, [read('x'), append('x', '1')]],
        [0, 9, [read('x'), append('x', '2')]],
        [10, 11, [read('x', '12')]],
      ],
    ],
    [
      'G2',
      'two transactions each miss what the other appends',
      [
        [0, 9, [read('x'), append('y', '1')]],
        [0, 9, [read('y'), append('x', '2')]],
        [10, 11, [read('x', '2'), read('y', '1')]],
      ],
    ],
    [
      'G-single',
      'only one half of an unknown one is there',
      [
        [0, 1, [append('x', '1'), append('y', '1')], 'unknown'],
        [2, 3, [read('x', '1'), read('y')]],
      ],
    ],
    [
      'G2-realtime',
      'two each miss an append, the second of which was answered before the first began',
      [
        [0, 20, [read('y'), append('x', '1')]],
        [0, 1, [append('y', '2')]],
        [10, 11, [read('x'), append('z', '3')]],
        [30, 31, [read('x', '1'), read('y', '2'), read('z', '3')]],
      ],
    ],
    [
      'G0-realtime',
      'a later append stands before an earlier one',
      [
        [0, 1, [append('x', '1')]],
        [2, 3, [append('x', '2')]],
        [4, 5, [read('x', '21')]],
      ],
    ],
    [
      'G1c-realtime',
      'a read sees what is appended later',
      [
        [0, 1, [read('x', '1')]],
        [2, 3, [append('x', '1')]],
      ],
    ],
    [
      'G-single-realtime',
      'a read is stale',
      [
        [0, 1, [append('x', '1')]],
        [2, 3, [read('x')]],
        [4, 5, [read('x', '1')]],
      ],
    ],
    [
      'G-single-realtime',
      'a second half comes after the first was read',
      [
        [0, 1, [append('x', '1'), append('y', '1')], 'unknown'],
        [2, 3, [read('x', '1')]],
        [4, 5, [read('y')]],
      ],
    ],
    [
      '',
      'what was answered in a window is lost whole, and what followed from it',
      [
        [0, 1, [append('x', '1')]],
        [2, 3, [read('x', '1'), append('x', '2'), append('y', '2')]],
        [3, 4, [read('x', '12'), append('y', '3')]],
        [3, 4, [read('y', '2')]],
        [10, 11, [read('x', '1'), read('y')]],
      ],
      { losses: [{ fromUs: 2, toUs: 6 }] },
    ],
    [
      'lost',
      'one is lost that was answered before the window',
      [
        [0, 1, [append('x', '1')]],
        [10, 11, [read('x')]],
      ],
      { losses: [{ fromUs: 2, toUs: 6 }] },
    ],
    [
      'torn',
      'in a window a half is lost',
      [
        [2, 3, [append('x', '2'), append('y', '2')]],
        [10, 11, [read('x', '2'), read('y')]],
      ],
      { losses: [{ fromUs: 2, toUs: 6 }] },
    ],
    [
      'incompatible-order',
      'one stays that saw what was lost',
      [
        [2, 3, [append('x', '1')]],
        [3, 4, [read('x', '1'), append('y', '2')]],
        [10, 11, [read('x'), read('y', '2')]],
      ],
      { losses: [{ fromUs: 2, toUs: 6 }] },
    ],
  ];

  const window = { fromUs: 2, struckUs: 8, toUs: 9 };
  cases.push(
    [
      'hole',
      'an earlier one is lost, and a later one of the server is there',
      [
        [2, 3, [append('x', '1')]],
        [4, 5, [append('y', '2')]],
        [10, 11, [read('x'), read('y', '2')]],
      ],
      { losses: [window] },
    ],
    [
      '',
      'an earlier one is lost, and one at the same time, or of the successor, is there',
      [
        [2, 5, [append('x', '1')]],
        [4, 6, [append('y', '2')]],
        [6, 9, [append('y', '3')]],
        [10, 11, [read('x'), read('y', '23')]],
      ],
      { losses: [window] },
    ],
    [
      'lost',
      'one is lost that lay on another server',
      [
        [2, 3, [append('x', '1')]],
        [10, 11, [read('x')]],
      ],
      { losses: [{ ...window, holds: (key) => key === 'y' }] },
    ],
    [
      'lost',
      'one is lost that began when the server was dead',
      [
        [9.5, 9.8, [append('x', '1')]],
        [10, 11, [read('x')]],
      ],
      { losses: [window] },
    ],
  );

  it.each(cases)('finds %s where %s', (kind, _, transactions, options = {}) => {
    const lines = transactions.map(([from, to, steps, outcome]): Line => [
      from,
      to,
      'transaction',
      steps,
      outcome ?? steps,
    ]);
    const { anomalies } = checkListAppend(historyOf(lines), options);
    // More may follow from one that is wrong.
    expect(anomalies.map((anomaly) => anomaly.kind).slice(0, 1)).toEqual(kind === '' ? [] : [kind]);
  });

  it('finds nothing in thousands of sequential transactions, and finds a single one that read too early', () => {
    const lists = ['x', 'y', 'z'].map((key) => ({ key, values: [] as string[] }));
    const lines = Array.from({ length: 5_000 }, (_, n): Line => {
      const [first, second] = [lists[n % 3]!, lists[(n + 1) % 3]!];
      const steps: Step[] = [
        ['read', first.key, [...first.values.slice(-1_000)]],
        append(second.key, `${n}`),
      ];
      // Each ends up to ten later ones later.
      second.values.push(`${n}`);
      return [n, n + 10, 'transaction', steps, steps];
    });
    // Lists would grow without end.
    const short = lines.slice(0, 1_500);
    const last = lists.map(({ key, values }): Step => [
      'read',
      key,
      values.filter((value) => Number(value) < 1_500),
    ]);
    const all: Line[] = [...short, [9_000, 9_001, 'transaction', last, last]];
    expect(checkListAppend(historyOf(all)).anomalies).toEqual([]);
    const [from, to, name, , result] = short[900]!;
    const [[, key, values], ...rest] = result as [Step, ...Step[]];
    const early = [['read', key, (values as string[]).slice(0, -20)], ...rest];
    const worse = all.with(900, [from, to, name, early, early]);
    expect(checkListAppend(historyOf(worse)).anomalies[0]?.kind).toMatch(/^G-single/);
  });
});

describe('a history', () => {
  it('is parsed from the lines of all processes; an operation without an end is unknown, and a torn last line is ignored', () => {
    const end = '{"end":"b","outcome":"ok","result":1,"atUs":9}\n';
    const begin = '{"begin":"b","process":"2","name":"read","key":"k","args":[],"atUs":3}\n';
    const other = '{"begin":"a","process":"1","name":"read","key":"k","args":[],"atUs":2}\n';
    const torn = '{"begin":"c","proc';
    expect(parseHistory([end + torn, begin, other + torn])).toMatchObject([
      { id: 'a', outcome: 'unknown', endUs: Infinity },
      { id: 'b', outcome: 'ok', result: 1, startUs: 3, endUs: 9 },
    ]);
    expect(() => parseHistory([begin, begin])).toThrow('used twice');
    expect(() => parseHistory([end])).toThrow('never began');
    expect(() => parseHistory([`${torn}\n${begin}`])).toThrow(SyntaxError);
  });

  const appends = (steps: Step[]): Operation => ({
    ...historyOf([[2, 3, 'transaction', steps, steps]])[0]!,
    model: 'list-append',
  });

  it('is wrong if it is empty or holds too few operations of a model', () => {
    expect(wrongInHistory(judgeHistory([]))).toEqual(['nothing was judged']);
    const one = judgeHistory([appends([['append', 'x', '1']])]);
    expect(wrongInHistory(one)).toEqual([]);
    expect(wrongInHistory(one, { 'list-append': 1, counter: 2 })).toEqual(['counter: 0 operations, not 2']);
    expect(wrongInHistory({ ...one, undecided: ['counter k'] })).toEqual(['undecided: counter k']);
  });

  it('distinguishes dependencies by data from those by real time, and counts lost appends', () => {
    const steps: Step[][] = [
      [['append', 'x', '1']],
      [['read', 'x', ['1']]],
      [['append', 'y', '3']],
      [
        ['read', 'x', []],
        ['read', 'y', ['3']],
      ],
    ];
    const history = steps.map((one, n) => ({
      ...appends(one),
      id: `T${n + 1}`,
      startUs: n * 4,
      endUs: n * 4 + 1,
    }));
    const losses = [{ fromUs: 0, toUs: 5, holds: (key: string) => key === 'x' }];
    // T1 and its reader are left out; T4 has read what T3 appended, and began later.
    expect(judgeHistory(history, losses)).toMatchObject({
      anomalies: [],
      lost: 1,
      dependencies: 1,
      realTime: 1,
    });
  });

  it('allows a register and a counter to fall back only if the dead server held them', () => {
    const of = (key: string, model: 'register' | 'counter', lines: readonly Line[]) =>
      historyOf(lines).map((operation) => ({ ...operation, id: `${key} ${operation.id}`, key, model }));
    const history = ['a', 'b'].flatMap((key) => [
      ...of(`${key}r`, 'register', [
        [2, 3, 'swap', ['v'], null],
        [10, 11, 'read', [], null],
      ]),
      ...of(`${key}c`, 'counter', [
        [2, 3, 'add', { by: 1 }, added(1, 1)],
        [10, 11, 'read', {}, null],
      ]),
    ]);
    const losses = [{ fromUs: 1, toUs: 5, holds: (key: string) => key.startsWith('a') }];
    const wrong = wrongInHistory(judgeHistory(history, losses));
    expect(wrong.map((text) => text.split(':')[0])).toEqual(['register br', 'counter bc']);
  });
});
