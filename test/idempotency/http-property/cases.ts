import * as fc from 'fast-check';

/**
 * The module's `maxResultBytes` here. Bodies are far below it or far beyond it, also once they are
 * compressed.
 */
export const MAX_RESULT_BYTES = 4_096;
const SIZES = [0, 1, 700, 16_384] as const;

export const POLICIES = ['replay', 'release', 'hold'] as const;
export type Policy = (typeof POLICIES)[number];

/** The decorated method's use of the response, and the options of its decorator. */
export interface RouteShape {
  readonly takes: 'nothing' | 'response' | 'passthrough';
  readonly stream: boolean;
  readonly onError: Policy | 'default';
  /** The same for every response. */
  readonly onResponse: Policy | 'default';
}

export const VALUES = [
  'nothing',
  'null',
  'text',
  'number',
  'false',
  'object',
  'array',
  'error',
  'circular',
  'bigint',
  'buffer',
  'observable',
  'observable-many',
  'observable-empty',
  'observable-fails',
  'web-response',
  'generator',
  'streamable-bytes',
] as const;
export type ValueKind = (typeof VALUES)[number];

export type Source = 'ends' | 'fails-first' | 'fails-midway';

export type ErrorKind =
  | { readonly kind: 'http'; readonly status: number }
  | {
      readonly kind:
        | 'plain'
        | 'domain'
        | 'conflict'
        | 'limit'
        | 'unavailable'
        | 'unknown'
        | 'applied'
        | 'misuse'
        | 'text'
        | 'undefined'
        | 'null'
        | 'object'
        | 'status-object';
    };

export const STYLES = [
  'send',
  'json',
  'status-send',
  'writes',
  'flush',
  'writeHead',
  'writeHead-length',
  'end',
  'sendFile',
  'redirect',
  'pipe',
  'pipeline',
] as const;
export type Style = (typeof STYLES)[number];

export type Ending =
  | { readonly do: 'return'; readonly value: ValueKind; readonly size: number }
  | { readonly do: 'throw'; readonly error: ErrorKind }
  | { readonly do: 'stream'; readonly source: Source; readonly size: number; readonly hasLength: boolean }
  | {
      readonly do: 'respond';
      readonly style: Style;
      readonly status: number;
      readonly size: number;
      readonly source: Source;
      /** Within the handler's promise, or after it, by a timer. */
      readonly late: boolean;
      /** Thrown once the response has ended. */
      readonly thenThrows: ErrorKind | undefined;
    }
  | {
      readonly do: 'respond-partly';
      /** Writes some bytes, or the head only. */
      readonly sends: 'bytes' | 'head';
      readonly next: 'throw' | 'nothing' | 'destroy' | 'end-late';
    }
  | { readonly do: 'answer-nothing' }
  | { readonly do: 'hang' };

/** One call of the handler. */
export interface Attempt {
  /** Turns of the event loop before anything else. */
  readonly turns: number;
  /**
   * True if it tells the surroundings that the moment has come to time out, to answer for it, or to
   * leave.
   */
  readonly reachesPoint: boolean;
  /** Set by the handler before a value is returned, `passthrough` only. */
  readonly status: number | undefined;
  readonly ending: Ending;
}

export const INTERCEPTORS = [
  'tap',
  'map',
  'map-throws-500',
  'map-throws-409',
  'timeout-408',
  'timeout-504',
  'retry',
  'catch',
  'operator',
  'later',
  'promise',
  'promise-strict',
  'lost-context',
  'twice',
  'together',
] as const;
export type InterceptorKind = (typeof INTERCEPTORS)[number];

export interface Surroundings {
  /** From the outermost to the innermost. */
  readonly interceptors: readonly InterceptorKind[];
  /** A filter's conversion of a domain error. */
  readonly filterStatus: number | undefined;
  readonly compress: boolean;
  /** Middleware that answers while the handler is at its point. */
  readonly answersAtPoint: boolean;
  /** The act of middleware before the handler is reached, or right after the route was entered. */
  readonly before: 'nothing' | 'ends' | 'ends-soon' | 'begins';
}

export interface ClientShape {
  readonly http: '1.0' | '1.1' | '1.1-close';
  readonly acceptsGzip: boolean;
  readonly retryAcceptsGzip: boolean;
  /** Another request on the same connection. */
  readonly next: 'none' | 'pipelined' | 'after';
  readonly leaves: 'never' | 'at-once' | 'at-point' | 'on-head' | 'soon';
}

export interface Case {
  readonly route: RouteShape;
  /** Plans for the first call of the handler, the second, …; the last one repeats. */
  readonly attempts: readonly Attempt[];
  readonly around: Surroundings;
  readonly client: ClientShape;
}

const size = fc.constantFrom(...SIZES);

const errorStatus = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      400,
      401,
      403,
      404,
      408,
      409,
      410,
      412,
      418,
      422,
      425,
      429,
      500,
      502,
      503,
      504,
    ),
  },
  { weight: 1, arbitrary: fc.integer({ min: 400, max: 599 }) },
  { weight: 1, arbitrary: fc.constantFrom(200, 202, 204, 302, 304, 599, 600, 999) },
);

const error: fc.Arbitrary<ErrorKind> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('http' as const), status: errorStatus }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'plain',
        'domain',
        'domain',
        'conflict',
        'limit',
        'unavailable',
        'unknown',
        'applied',
        'misuse',
        'text',
        'undefined',
        'null',
        'object',
        'status-object',
      ),
    }),
  },
);

const source: fc.Arbitrary<Source> = fc.constantFrom('ends', 'ends', 'fails-first', 'fails-midway');

const returned: fc.Arbitrary<Ending> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('return' as const), value: fc.constantFrom(...VALUES), size }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('throw' as const), error }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('stream' as const), source, size, hasLength: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'hang' as const }) },
);

const ownStatus = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(200, 201, 202, 204) },
  { weight: 3, arbitrary: fc.constantFrom(206, 304, 400, 404, 408, 409, 412, 425, 429, 500, 503) },
);

const responded: fc.Arbitrary<Ending> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('respond' as const),
      style: fc.constantFrom(...STYLES),
      status: ownStatus,
      size,
      source,
      late: fc.oneof(
        { weight: 3, arbitrary: fc.constant(false) },
        { weight: 1, arbitrary: fc.constant(true) },
      ),
      thenThrows: fc.option(error, { nil: undefined, freq: 4 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('respond-partly' as const),
      sends: fc.constantFrom('bytes', 'bytes', 'head'),
      next: fc.constantFrom('throw', 'throw', 'destroy', 'end-late', 'end-late', 'nothing'),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('throw' as const), error }) },
  { weight: 1, arbitrary: fc.constantFrom({ do: 'answer-nothing' as const }, { do: 'hang' as const }) },
);

const attempt = (takes: RouteShape['takes']): fc.Arbitrary<Attempt> =>
  fc.record({
    turns: fc.nat({ max: 2 }),
    reachesPoint: fc.boolean(),
    status: takes === 'passthrough' ? fc.option(ownStatus, { nil: undefined }) : fc.constant(undefined),
    ending: takes === 'response' ? responded : returned,
  });

const usually = <T>(usual: T, others: readonly T[], of: number): fc.Arbitrary<T> =>
  fc.oneof(
    { weight: of - 1, arbitrary: fc.constant(usual) },
    { weight: 1, arbitrary: fc.constantFrom(...others) },
  );

const around: fc.Arbitrary<Surroundings> = fc.record({
  interceptors: fc.oneof(
    { weight: 1, arbitrary: fc.constant([]) },
    { weight: 2, arbitrary: fc.uniqueArray(fc.constantFrom(...INTERCEPTORS), { maxLength: 3 }) },
  ),
  filterStatus: fc.option(fc.constantFrom(404, 409, 412, 422, 429, 503, 200), { nil: undefined }),
  compress: usually(false, [true], 4),
  answersAtPoint: usually(false, [true], 6),
  before: usually<Surroundings['before']>('nothing', ['ends', 'ends-soon', 'begins'], 10),
});

const client: fc.Arbitrary<ClientShape> = fc.record({
  http: usually<ClientShape['http']>('1.1', ['1.0', '1.1-close'], 4),
  acceptsGzip: fc.boolean(),
  retryAcceptsGzip: fc.boolean(),
  next: fc.constantFrom('none', 'pipelined', 'after'),
  leaves: usually<ClientShape['leaves']>('never', ['at-once', 'at-point', 'on-head', 'soon'], 5),
});

const takes = fc.constantFrom<RouteShape['takes']>('nothing', 'response', 'response', 'passthrough');

export const anyCase: fc.Arbitrary<Case> = takes.chain((chosen) =>
  fc.record({
    route: fc.record({
      takes: fc.constant(chosen),
      stream: usually(false, [true], 4),
      onError: usually<RouteShape['onError']>('default', POLICIES, 5),
      onResponse: usually<RouteShape['onResponse']>('default', POLICIES, 6),
    }),
    attempts: fc.array(attempt(chosen), { minLength: 1, maxLength: 2 }),
    around,
    client,
  }),
);
