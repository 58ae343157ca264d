import { resolve } from 'node:path';
import type { BrowserContextOptions, Page } from 'playwright-core';
import { startShop, stopShop, type Shop } from '../e2e/shop.js';
import { describeInBrowser, useBrowser } from './browser.js';

const DESKTOP = { viewport: { width: 1280, height: 900 } } as const;
const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true } as const;
const LIGHT = { colorScheme: 'light' } as const;
const DARK = { colorScheme: 'dark' } as const;
/** A run may take 12 s, and its processes as long to start on a machine that is busy. */
const RUN_MS = 60_000;

describeInBrowser('the race lab in a browser', () => {
  const browser = useBrowser();
  let shop: Shop;

  beforeAll(async () => {
    shop = await startShop();
  });

  afterAll(async () => {
    if (shop) await stopShop(shop);
  });

  async function open(options: BrowserContextOptions = {}): Promise<Page> {
    const page = await browser.open(shop.url, options);
    page.setDefaultTimeout(20_000);
    await page.getByRole('cell').first().waitFor();
    return page;
  }

  async function choose(page: Page, scenario: string, fault: string, callers = 10): Promise<void> {
    await page.getByRole('radio', { name: scenario, exact: true }).check({ force: true });
    await page.getByRole('radio', { name: fault, exact: true }).check({ force: true });
    await page.getByLabel('Callers on each side').fill(String(callers));
  }

  /** The sentence, once the run is over. */
  async function verdictOf(page: Page): Promise<string> {
    const verdict = page.locator('#verdict').filter({ hasText: /^(?!Starting\.|Running\.|Choose)/ });
    await verdict.waitFor({ timeout: RUN_MS });
    return await verdict.innerText();
  }

  async function row(page: Page, label: string): Promise<[naive: number, atomic: number]> {
    const cells = page.getByRole('row', { name: label }).first().getByRole('cell');
    const [naive, atomic] = (await cells.allInnerTexts()).map((text) => Number(text.replaceAll(',', '')));
    return [naive!, atomic!];
  }

  const scenarios = [
    [
      'Withdraw',
      'Lost updates',
      /^Naive lost (\d+) of \d+ withdrawals and paid out \d+ cents? too many\. Atomic lost (\d+) of \d+ withdrawals and paid out 0 cents too many\.$/,
    ],
    [
      'Stock',
      'Lost updates',
      /^Naive lost (\d+) of \d+ reservations and sold \d+ units? that were not there\. Atomic lost (\d+) of \d+ reservations and sold 0 units that were not there\.$/,
    ],
    [
      'Order retry',
      'Duplicate orders',
      /^Naive made (\d+) duplicates? of 50 orders\. Atomic made (\d+) duplicates of 50 orders\.$/,
    ],
    ['Counter', 'Lost updates', /^Naive lost (\d+) of 200 views\. Atomic lost (\d+) of 200 views\.$/],
    [
      'Catalogue swap',
      'Reads of a part',
      /^Naive showed a part of the catalogue in (\d+) of \d+ reads(?: and left \d+ of 400 products)?\. Atomic showed a part of the catalogue in (\d+) of \d+ reads\.$/,
    ],
  ] as const;
  const looks = [
    { ...DESKTOP, ...LIGHT },
    { ...PHONE, ...DARK },
    { ...DESKTOP, ...DARK },
    { ...PHONE, ...LIGHT },
  ];

  /** Numbers of the sentence, the readouts, the table and the last point of the plots, all of which are the same. */
  async function lostBy(
    page: Page,
    label: string,
    sentence: RegExp,
  ): Promise<[naive: number, atomic: number]> {
    const verdict = await verdictOf(page);
    expect(verdict).toMatch(sentence);
    const [, naive, atomic] = sentence.exec(verdict)!.map(Number);
    expect(await row(page, label)).toEqual([naive, atomic]);
    const readouts = await page.locator('[data-readout]').allInnerTexts();
    expect(readouts.map((text) => Number(text.replaceAll(',', '')))).toEqual([naive, atomic]);
    await page.locator('summary').click();
    const last = await page.locator('#points tbody tr').last().getByRole('cell').allInnerTexts();
    expect(last.slice(0, 2).map((text) => Number(text.replaceAll(',', '')))).toEqual([naive, atomic]);
    return [naive!, atomic!];
  }

  it.each(scenarios.map(([scenario, label, sentence], i) => ({ scenario, label, sentence, i })))(
    '[LAB-1] $scenario, slow Redis: naive goes wrong and atomic does not',
    async ({ scenario, label, sentence, i }) => {
      const page = await open(looks[i % looks.length]);
      await choose(page, scenario, 'Slow Redis');
      await page.getByRole('button', { name: 'Run' }).click();
      const [naive, atomic] = await lostBy(page, label, sentence);
      expect(naive).toBeGreaterThan(0);
      expect(atomic).toBe(0);
      expect((await row(page, 'Commands held back'))[0]).toBeGreaterThan(100);
    },
    RUN_MS,
  );

  it.each([
    ['None', undefined],
    ['Lost reply', 'Replies lost'],
    ['Killed worker', 'Processes killed'],
  ])(
    '[LAB-1] Order retry, %s: naive makes orders twice and atomic does not',
    async (fault, counted) => {
      const page = await open({ ...DESKTOP, ...LIGHT });
      await choose(page, 'Order retry', fault);
      await page.getByRole('button', { name: 'Run' }).click();
      const [, label, sentence] = scenarios[2];
      const [naive, atomic] = await lostBy(page, label, sentence);
      expect(naive).toBeGreaterThan(0);
      expect(atomic).toBe(0);
      expect(await row(page, 'Orders in Redis')).toEqual([50 + naive, 50]);
      if (counted) expect((await row(page, counted))[0]).toBeGreaterThan(0);
    },
    RUN_MS,
  );

  it(
    '[LAB-1] leaves a half catalogue or a whole one when the process that imports is killed',
    async () => {
      const page = await open({ ...DESKTOP, ...LIGHT });
      await choose(page, 'Catalogue swap', 'Killed worker');
      await page.getByRole('button', { name: 'Run' }).click();
      const [, label, sentence] = scenarios[4];
      expect(await lostBy(page, label, sentence)).toEqual([expect.any(Number), 0]);
      const [naive, atomic] = await row(page, 'Products in Redis');
      expect(naive).toBeLessThan(400);
      expect(atomic).toBe(400);
    },
    RUN_MS,
  );

  it(
    '[LAB-3] is used by keyboard alone, and stops when it is told to',
    async () => {
      const page = await open({ ...DESKTOP, ...LIGHT });
      const focused = (): Promise<string> =>
        page.evaluate('document.activeElement.value || document.activeElement.textContent');
      const order: (string | null)[] = [];
      for (const key of ['Tab', 'Tab', 'ArrowRight', 'Tab', 'ArrowLeft', 'Tab', 'ArrowRight', 'Tab']) {
        await page.keyboard.press(key);
        order.push(await focused());
      }
      expect(order).toEqual([
        'All endpoints',
        'withdraw',
        'stock',
        'none',
        'killed-worker',
        '25',
        '26',
        'Run',
      ]);
      await page.keyboard.press('Enter');
      await page.locator('#verdict').filter({ hasText: 'Running.' }).waitFor({ timeout: RUN_MS });
      expect(await focused()).toBe('Stop');
      await page.keyboard.press('Enter');
      expect(await verdictOf(page)).toBe('Stopped.');
      expect(await focused()).toBe('Run');
    },
    RUN_MS,
  );

  it.each(looks.map((look) => [look.viewport.width, look.colorScheme, look] as const))(
    '[LAB-3] has no accessibility violations that axe knows of, and nothing wider than the window, at %d px, %s',
    async (width, _, look) => {
      const page = await open(look);
      // By the debugger: the page's policy lets no script in.
      await page.addInitScript({ path: resolve('node_modules/axe-core/axe.min.js') });
      await page.reload();
      await page.getByRole('cell').first().waitFor();
      await page.locator('summary').click();
      const { violations, passes } = await page.evaluate<AxeResults>('axe.run()');
      expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)).toEqual(
        [],
      );
      expect(passes.map(({ id }) => id)).toContain('color-contrast');
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width);
    },
  );

  it(
    '[LAB-3] paints soon, and nothing moves by itself, before, during or after a run',
    async () => {
      const page = await open({ ...PHONE, ...LIGHT });
      const fcpMs = await page.evaluate<number>(
        `performance.getEntriesByName('first-contentful-paint')[0].startTime`,
      );
      console.log(`First contentful paint after ${Math.round(fcpMs)} ms`);
      expect(fcpMs).toBeLessThan(10_000);

      await choose(page, 'Counter', 'None');
      await page.getByRole('button', { name: 'Run' }).click();
      await verdictOf(page);
      const shifts = await page.evaluate<number>(LAYOUT_SHIFTS);
      expect(shifts).toBeLessThan(0.05);
    },
    RUN_MS,
  );
});

interface AxeResults {
  violations: { id: string; nodes: { html: string }[] }[];
  passes: { id: string }[];
}

/** How far things moved that nobody moved. */
const LAYOUT_SHIFTS = `new Promise((done) => {
  const sum = (list) => list.getEntries().reduce((all, entry) => all + (entry.hadRecentInput ? 0 : entry.value), 0);
  new PerformanceObserver((list) => done(sum(list))).observe({ type: 'layout-shift', buffered: true });
  // Without any there is nothing to be told.
  setTimeout(() => done(0), 500);
})`;
