import type { IncomingMessage } from 'node:http';

/** The request's properties that Express, Fastify and common middleware set. */
export interface HttpRequest {
  readonly method: string;
  readonly originalUrl?: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body?: unknown;
  /** The principal, as authentication sets it. */
  readonly user?: unknown;
  readonly auth?: unknown;
  readonly oidc?: { readonly user?: unknown } | null;
  readonly session?: unknown;
  readonly sessionID?: unknown;
  /** Set by cookie-session: the name of its cookie. */
  readonly sessionOptions?: unknown;
  /** The tenant, as middleware puts it here. */
  readonly tenant?: unknown;
  readonly tenantId?: unknown;
  readonly organization?: unknown;
  readonly organizationId?: unknown;
  readonly workspace?: unknown;
  readonly workspaceId?: unknown;
  /** The event of API Gateway, as adapters for AWS Lambda put it here. */
  readonly requestContext?: GatewayContext;
  readonly apiGateway?: { readonly event?: { readonly requestContext?: GatewayContext } };
  readonly awsLambda?: { readonly event?: { readonly requestContext?: GatewayContext } };
  /** Uploads, as multer and middleware like it put them here. */
  readonly file?: unknown;
  readonly files?: unknown;
  /** Node's own request behind Fastify's. */
  readonly raw?: IncomingMessage & Partial<Omit<HttpRequest, keyof IncomingMessage | 'raw'>>;
  /** Empty or missing where an adapter has made the request. */
  readonly rawHeaders?: IncomingMessage['rawHeaders'];
  readonly socket?: object;
}

/** The context of a request behind API Gateway. @inline */
type GatewayContext = { readonly authorizer?: unknown };
