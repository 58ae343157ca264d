import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { NextFunction, Request, Response } from 'express';
import { setPageHeaders } from '../http/page-headers.js';
import { renderPage, type RenderedPage } from './render.js';

/** The repository, seen from where this file is built to. */
const REPOSITORY = new URL('../../../', import.meta.url);
const INDEX = 'docs/README';
/** No path leads out of the documentation. */
const PAGES = /^\/(README|CHANGELOG|docs\/(?:(?:recipes|decisions)\/)?[\w-]+)$/;

/** The documentation as pages below `/guide`, from the Markdown files of the repository. */
export function serveGuide(app: NestExpressApplication, { lab }: { lab: boolean }): void {
  const links = [`<a href="/guide/${INDEX}">All pages</a>`, '<a href="/docs">All endpoints</a>'];
  if (lab) links.push('<a href="/">Race lab</a>');
  const assets = fileURLToPath(new URL('sample-app/public', REPOSITORY));
  app.useStaticAssets(assets, { prefix: '/guide/assets', index: false, setHeaders: setPageHeaders });
  app.use('/guide', async ({ path }: Request, response: Response, next: NextFunction) => {
    if (path === '/') {
      response.redirect(`/guide/${INDEX}`);
      return;
    }
    const [, page] = PAGES.exec(path) ?? [];
    const markdown =
      page && (await readFile(new URL(`${page}.md`, REPOSITORY), 'utf8').catch(() => undefined));
    if (markdown === undefined || markdown === '') {
      next();
      return;
    }
    setPageHeaders(response);
    response.type('html').send(pageOf(renderPage(markdown, `${page}.md`), links));
  });
}

function pageOf({ title, html }: RenderedPage, links: readonly string[]): string {
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta name="color-scheme" content="light dark" />
    <title>${escape(title)} · nestjs-atomic-redis</title>
    <link rel="icon" href="/guide/assets/favicon.svg" type="image/svg+xml" />
    <link rel="stylesheet" href="/guide/assets/lab.css" />
    <link rel="stylesheet" href="/guide/assets/guide.css" />
  </head>
  <body>
    <header class="masthead">
      <a class="brand" href="/guide/README">nestjs-atomic-redis</a>
      <nav>${links.join(' ')}</nav>
    </header>
    <main class="panel guide">
${html}
    </main>
  </body>
</html>
`;
}

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
