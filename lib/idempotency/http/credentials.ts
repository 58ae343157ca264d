import type { HttpRequest } from '../../http/http-request.js';
import { IdempotencyCallerUnknownError } from '../idempotency.errors.js';

/** An Authorization header, as what of it stays the same when the request is sent again. */
export interface Credential {
  /** True for a secret that only its owner has and that is not renewed by itself. */
  readonly isStable: boolean;
  readonly value: string;
}

/**
 * Schemes whose parameters change with each request, with the parameters that name the signing key.
 */
const SIGNED: Readonly<Record<string, readonly string[]>> = {
  digest: ['username', 'realm'],
  hawk: ['id'],
  signature: ['keyid'],
  oauth: ['oauth_consumer_key', 'oauth_token'],
};

/** `AWS4-HMAC-SHA256`, and the schemes of other clouds that were made after it. */
const SIGNED_REQUEST = /-(?:hmac|rsa|ecdsa)\b/;

/**
 * Reads an Authorization header. For a signature only its key id counts: the rest differs with each
 * attempt.
 */
export function credentialOf(authorization: string): Credential {
  const sent = authorization.trim();
  const space = sent.indexOf(' ');
  if (space < 0) return { isStable: false, value: sent };
  const scheme = sent.slice(0, space).toLowerCase();
  const rest = sent.slice(space + 1).trim();
  if (scheme === 'basic') return { isStable: true, value: `basic ${rest}` };
  const parameters = SIGNED[scheme];
  if (parameters) {
    const key = parameters.map((name) => parameterOf(rest, name) ?? '');
    if (key.some((part) => part !== '')) return { isStable: false, value: JSON.stringify([scheme, ...key]) };
  } else if (SIGNED_REQUEST.test(scheme)) {
    const key = /\bCredential=([^/,;&\s]+)/i.exec(rest)?.[1];
    if (key !== undefined) return { isStable: false, value: JSON.stringify([scheme, key]) };
  } else if (scheme === 'aws') {
    return { isStable: false, value: JSON.stringify([scheme, rest.slice(0, rest.lastIndexOf(':'))]) };
  }
  return { isStable: false, value: `${scheme} ${rest}` };
}

/**
 * The key of an HTTP message signature (RFC 9421); its other parameters differ with each attempt.
 */
export const keyOfSignature = (signatureInput: string): string | undefined =>
  parameterOf(signatureInput, 'keyid');

function parameterOf(text: string, name: string): string | undefined {
  const found = new RegExp(`(?:^|[\\s,;])${name}=(?:"([^"]*)"|([^\\s,;"]+))`, 'i').exec(text);
  return found?.[1] ?? found?.[2];
}

/** Three parts of base64url, the first of which begins an object. */
export const isJwt = (text: string): boolean => /^(?:Bearer )?eyJ[\w-]*\.[\w-]*\.[\w-]*$/i.test(text);

interface TlsSocket {
  readonly authorized?: unknown;
  readonly getPeerCertificate?: () => {
    readonly subject?: object;
    readonly issuer?: object;
    readonly subjectaltname?: string;
  };
}

/**
 * The client's certificate, where TLS has verified it: by the URI among its names, else by subject
 * and issuer, which a renewed one shares.
 *
 * @throws IdempotencyCallerUnknownError when the connection is gone, so that it cannot be told
 */
export function certificateOf(request: HttpRequest): string | undefined {
  const socket: TlsSocket | undefined = request.socket ?? request.raw?.socket;
  try {
    if (socket?.authorized !== true || typeof socket.getPeerCertificate !== 'function') return undefined;
    const { subject, issuer, subjectaltname } = socket.getPeerCertificate();
    const uri = /(?:^|, )URI:([^,]+)/.exec(subjectaltname ?? '')?.[1];
    if (uri !== undefined) return `uri ${uri}`;
    return subject && JSON.stringify([subject, issuer]);
  } catch (error) {
    // HTTP/2: a stream outlives its connection.
    if ((error as { code?: unknown }).code === 'ERR_HTTP2_SOCKET_UNBOUND')
      throw new IdempotencyCallerUnknownError();
    throw error;
  }
}
