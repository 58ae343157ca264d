import { existsSync } from 'node:fs';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';

/** The browser that scripts/setup found, or Debian's. */
const binary = process.env['CHROMIUM_BIN'] ?? '/usr/bin/chromium';

const QUIET = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** `describe`, or where no browser is a suite that is skipped and says why. */
export function describeInBrowser(name: string, suite: () => void): void {
  if (existsSync(binary)) describe(name, suite);
  else describe.skip(`${name} (there is no ${binary}: install Chromium or set CHROMIUM_BIN)`, suite);
}

/**
 * One browser for the spec file. What its pages complain of, and whom else they ask, fails the
 * test. Call it inside `describe`.
 */
export function useBrowser(): { open(url: string, options?: BrowserContextOptions): Promise<Page> } {
  let browser: Browser;
  let complaints: string[] = [];

  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: binary, args: QUIET });
  });

  afterEach(async () => {
    await Promise.all(browser.contexts().map((context) => context.close()));
    const found = complaints;
    complaints = [];
    expect(found).toEqual([]);
  });

  afterAll(async () => {
    await browser?.close();
  });

  return {
    async open(url, options = {}) {
      const context = await browser.newContext(options);
      context.on('request', (request) => {
        if (new URL(request.url()).origin !== new URL(url).origin) complaints.push(`asks ${request.url()}`);
      });
      context.on('console', (message) => {
        if (message.type() !== 'log') complaints.push(`${message.type()}: ${message.text()}`);
      });
      context.on('weberror', (error) => complaints.push(String(error.error())));
      const page = await context.newPage();
      await page.goto(url);
      return page;
    },
  };
}
