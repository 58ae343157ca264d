import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { setPageHeaders as setHeaders } from '../http/page-headers.js';

/**
 * The lab's page at `/`, as it is in the repository, and the chart library from node_modules:
 * nothing comes from elsewhere.
 */
export function serveLabPage(app: NestExpressApplication): void {
  const page = fileURLToPath(new URL('../../../sample-app/public', import.meta.url));
  app.useStaticAssets(page, { setHeaders });
  app.useStaticAssets(dirname(fileURLToPath(import.meta.resolve('uplot'))), { prefix: '/uplot', setHeaders });
}
