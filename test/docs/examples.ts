import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { INestApplication, Type } from '@nestjs/common';
import { NestFactory, type AbstractHttpAdapter } from '@nestjs/core';
import { useRedis } from '../support/redis.js';

const ROOT = path.join(__dirname, '../..');

/** README.md and every page below docs/. */
export const pages = (): string[] => [
  'README.md',
  ...readdirSync(path.join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .map((file) => `docs/${file}`)
    .toSorted(),
];

export const textOf = (page: string): string => readFileSync(path.join(ROOT, page), 'utf8');

/** Returns the text under a heading, up to the next one of its level or above. */
export function sectionOf(page: string, heading: string): string {
  const [, section] = textOf(page).split(`\n## ${heading}\n`);
  if (section === undefined) throw new Error(`${page} has no section "${heading}"`);
  return section.split(/^## /m, 1)[0]!;
}

/**
 * The TypeScript blocks of a text that stand by themselves, as they stand there: those that begin
 * with an import, and import no other file.
 */
export const examplesIn = (text: string): string[] =>
  [...text.matchAll(/```ts\n([\s\S]*?)```/g)]
    .map(([, block]) => block!)
    .filter((block) => block.startsWith('import ') && !/ from '\.{1,2}\//.test(block));

export const examplesOf = (page: string): string[] => examplesIn(textOf(page));

/** Writes examples where they resolve their imports as a test does. Call `remove` afterwards. */
export function extract(
  name: string,
  examples: readonly string[],
): { readonly files: string[]; remove(): void } {
  const folder = path.join(__dirname, 'extracted', name);
  mkdirSync(folder, { recursive: true });
  const files = examples.map((example, i) => {
    const file = path.join(folder, `example-${i + 1}.ts`);
    writeFileSync(file, example);
    return file;
  });
  return { files, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** A route that an example declares. */
interface Route {
  matches(call: string): boolean;
  toString(): string;
}

/** Requests to the example of each page, as `POST /orders/7`. */
const calls = new Map<string, string[]>();

/** The routes that the example of a page declares, and the requests that were sent to it. */
export function routesOf(page: string): { declared: Route[]; called: readonly string[] } {
  let controller = '';
  const declared: Route[] = [];
  for (const [, decorator, pathname = ''] of examplesOf(page)[0]!.matchAll(
    /@(Controller|Get|Post|Put|Patch|Delete)\((?:'([^']*)')?\)/g,
  )) {
    if (decorator === 'Controller') controller = pathname;
    else {
      const route = `${decorator!.toUpperCase()} /${[controller, pathname].filter(Boolean).join('/')}`;
      const pattern = new RegExp(`^${route.replaceAll(/:\w+/g, '[^/]+')}$`);
      declared.push({ matches: (call) => pattern.test(call), toString: () => route });
    }
  }
  return { declared, called: calls.get(page) ?? [] };
}

/**
 * Runs the first example of a page, which exports `AppModule` and takes its Redis from `REDIS_URL`,
 * as an HTTP application on a server of its own. Call it inside `describe`.
 *
 * @param adapter of the platform; default: Express
 */
export function useExample(page: string, adapter?: () => AbstractHttpAdapter) {
  let app: INestApplication | undefined;
  let url = '';
  let file = '';
  let classes: Record<string, Type> = {};
  let remove = (): void => undefined;

  // Before the server's own, which comes next: hooks run in this order, and an application may need
  // its Redis to close.
  afterAll(async () => {
    await app?.close();
    remove();
  });
  const redis = useRedis();

  beforeAll(async () => {
    const [example] = examplesOf(page);
    if (!example) throw new Error(`${page} has no TypeScript example that begins with an import`);
    const extracted = extract(page.replaceAll(/\W/g, '-'), [example]);
    remove = extracted.remove;
    file = extracted.files[0]!;
    process.env.REDIS_URL = redis.server.url;
    // oxlint-disable-next-line typescript/no-require-imports -- the file was made a moment ago
    classes = require(file) as Record<string, Type>;
    delete process.env.REDIS_URL;
    const AppModule = classes['AppModule']!;
    app = await (adapter
      ? NestFactory.create(AppModule, adapter(), { logger: false })
      : NestFactory.create(AppModule, { logger: false }));
    await app.listen(0, '127.0.0.1');
    url = await app.getUrl();
  });

  return {
    redis,
    /** Sends a request with a JSON body to the application. */
    async send(
      method: string,
      pathname: string,
      body?: unknown,
      headers: Readonly<Record<string, string>> = {},
    ): Promise<{ status: number; body: unknown; headers: Headers }> {
      const called = calls.get(page) ?? [];
      calls.set(page, called.concat(`${method} ${pathname}`));
      const response = await fetch(url + pathname, {
        method,
        headers: { 'content-type': 'application/json', ...headers },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      return {
        status: response.status,
        headers: response.headers,
        body: text === '' ? undefined : (JSON.parse(text) as unknown),
      };
    },
    get app() {
      return app!;
    },
    /** The file that the example was written to. */
    get file() {
      return file;
    },
    /** The instance of a class that the example exports. */
    instanceOf: <T>(name: string): T => app!.get<T>(classes[name]!),
  };
}
