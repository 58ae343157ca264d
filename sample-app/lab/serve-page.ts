import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NestExpressApplication } from '@nestjs/platform-express';

const HEADERS = {
  'Content-Security-Policy':
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
};

/** The lab's page at `/`, as it is in the repository, and the chart library from node_modules: nothing comes from elsewhere. */
export function serveLabPage(app: NestExpressApplication): void {
  const setHeaders = (response: { setHeader(name: string, value: string): void }): void => {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
  };
  const page = fileURLToPath(new URL('../../../sample-app/public', import.meta.url));
  app.useStaticAssets(page, { setHeaders });
  app.useStaticAssets(dirname(fileURLToPath(import.meta.resolve('uplot'))), { prefix: '/uplot', setHeaders });
}
