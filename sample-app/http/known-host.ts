import { isIP } from 'node:net';
import { STATUS_CODES } from 'node:http';
import type { INestApplication } from '@nestjs/common';
import type { NextFunction, Request, Response } from 'express';

/** Requests by any other name are refused below. */
const NAMES = ['localhost'];

/**
 * Refuses requests whose Host is a foreign name. A page of such a name can resolve it to this
 * machine (DNS rebinding), and the browser would then let that page read the answers. An IP address
 * cannot be rebound.
 *
 * @param boundTo the host name or address that the shop listens on
 */
export function refuseForeignHosts(app: INestApplication, boundTo: string): void {
  const names = new Set([...NAMES, boundTo.toLowerCase()]);
  app.use((request: Request, response: Response, next: NextFunction) => {
    const name = nameIn(request.headers.host);
    if (isIP(name) !== 0 || names.has(name)) {
      next();
      return;
    }
    const status = 421;
    const detail = `This shop does not answer as "${name}". Open it as localhost or by its IP address, or set HOST to its name.`;
    response
      .status(status)
      .type('application/problem+json')
      .send(JSON.stringify({ title: STATUS_CODES[status], status, detail, code: 'FOREIGN_HOST' }));
  });
}

/** Without port, brackets of IPv6, and the dot of a full name. */
function nameIn(host = ''): string {
  return host
    .toLowerCase()
    .replace(/:\d+$/, '')
    .replaceAll(/^\[|\]$/g, '')
    .replace(/\.$/, '');
}
