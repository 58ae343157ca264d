import type { ServerResponse } from 'node:http';
import { InvalidArgumentError } from '../../atomic-redis.errors.js';
import * as check from '../../atomic-redis.validation.js';
import type { WireResponse } from './wire-response.js';

/** Names of headers between client and server. @inline */
export interface IdempotencyHeaders {
  /** The request header that holds the key. @default 'Idempotency-Key' */
  key?: string;
  /**
   * The response header that is `true` on a replay; false for none.
   * @default 'Idempotency-Replayed'
   */
  replayed?: string | false;
  /** Sends the key back in the response header of the same name. @default false */
  echo?: boolean;
}

/**
 * Headers as others have them: `ietf` is the draft of the Idempotency-Key header, which knows no
 * header of a response, with this library's `Idempotency-Replayed`; `stripe` marks a replay by
 * `Idempotent-Replayed` and sends the key back. @inline
 */
export type IdempotencyPreset = 'ietf' | 'stripe';

const PRESETS: Readonly<Record<IdempotencyPreset, Required<IdempotencyHeaders>>> = {
  ietf: { key: 'Idempotency-Key', replayed: 'Idempotency-Replayed', echo: false },
  stripe: { key: 'Idempotency-Key', replayed: 'Idempotent-Replayed', echo: true },
};

export const checkPreset = check.oneOf(...Object.keys(PRESETS));

/** @param given counts more than the preset */
export const resolveHeaders = (
  preset: IdempotencyPreset = 'ietf',
  given?: IdempotencyHeaders,
): Required<IdempotencyHeaders> => headersOf(given, PRESETS[preset]);

/** Returns the headers of a route: its own, completed by the defaults. */
export const headersOf = (
  own: IdempotencyHeaders | undefined,
  defaults: Required<IdempotencyHeaders>,
): Required<IdempotencyHeaders> =>
  own
    ? {
        key: own.key ?? defaults.key,
        replayed: own.replayed ?? defaults.replayed,
        echo: own.echo ?? defaults.echo,
      }
    : defaults;

/** A token of RFC 9110, of which names of headers are made. */
const headerName: check.Check = (path, value) => {
  if (typeof value !== 'string' || !/^[\w!#$%&'*+.^`|~-]+$/.test(value))
    throw new InvalidArgumentError(path, 'the name of a header', value);
};

const isFalse: check.Check = (path, value) => {
  if (value !== false) throw new InvalidArgumentError(path, 'false', value);
};

export const checkHeaders = check.options({
  key: headerName,
  replayed: check.either('the name of a header, or false', headerName, isFalse),
  echo: check.boolean,
} satisfies Record<keyof IdempotencyHeaders, check.Check>);

/** A recorded response as it goes to a client that did not make the first request. */
export function markReplayed(
  response: WireResponse,
  { replayed }: Required<IdempotencyHeaders>,
): WireResponse {
  return replayed ? { ...response, headers: { ...response.headers, [replayed]: 'true' } } : response;
}

/** Sends the key back, on whatever the request is answered with. */
export function echoKey(
  response: ServerResponse,
  { key: name, echo }: Required<IdempotencyHeaders>,
  key: string,
): void {
  if (echo && !response.headersSent) response.setHeader(name, key);
}
