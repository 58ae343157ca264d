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

  // Such as those of Node.js about listeners that pile up.
  afterEach(() => {
    if (shop.output.includes('Warning')) throw new Error(shop.output);
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

  const numbersIn = (texts: string[]): number[] => texts.map((text) => Number(text.replaceAll(',', '')));

  async function row(page: Page, label: string): Promise<[naive: number, byHand: number, atomic: number]> {
    const cells = page.getByRole('row', { name: label }).first().getByRole('cell');
    return numbersIn(await cells.allInnerTexts()) as [number, number, number];
  }

  /**
   * A scenario of each kind (of calls, of an import, with a fault of its own), the expected result
   * of its naive handler, and that of its atomic one. The page shows all alike; the spec behind it
   * runs the others.
   */
  const scenarios = [
    {
      scenario: 'Withdraw',
      // It goes wrong at once. The others end by themselves, however slow the machine is.
      forMs: 4_000,
      callers: 10,
      naive: /^✗ Lost \d+ of \d+ withdrawals/,
      atomic: /^✓ Booked all \d+ withdrawals once\.$/,
      look: { ...DESKTOP, ...LIGHT },
    },
    {
      scenario: 'Catalogue swap',
      forMs: 40_000,
      callers: 10,
      naive: /^✗ Showed a part of the catalogue in \d+ of \d+ reads/,
      atomic: /^✓ Showed the whole catalogue in \d+ reads\.$/,
      look: { ...PHONE, ...DARK },
    },
    {
      scenario: 'Stopped lock holder',
      forMs: 40_000,
      callers: 3,
      naive: /^✗ Published \d+ older statements? over (?:a newer one|newer ones)\.$/,
      atomic: /^✓ Published \d+ statements in order\.$/,
      look: { ...DESKTOP, ...DARK },
    },
  ];
  const looks = [
    { ...DESKTOP, ...LIGHT },
    { ...PHONE, ...DARK },
    { ...DESKTOP, ...DARK },
    { ...PHONE, ...LIGHT },
  ];

  interface Shown {
    headline: string;
    /** The sentence of each side, with its mark. */
    said: string[];
    /**
     * The number of errors of each side: the same in its card and at the last point of the plots.
     */
    totals: number[];
  }

  /** Has the page's runs begin calls for this long. */
  async function limit(page: Page, forMs: number): Promise<void> {
    await page.route('**/lab/runs', async (route) => {
      const asked = route.request().postDataJSON() as object;
      await route.continue({ postData: JSON.stringify({ ...asked, forMs }) });
    });
  }

  async function run(page: Page, scenario: string, fault: string, callers?: number): Promise<Shown> {
    await choose(page, scenario, fault, callers);
    await page.getByRole('button', { name: 'Run' }).click();
    const headline = await verdictOf(page);
    const totals = numbersIn(await page.locator('[data-readout]').allInnerTexts());
    await page.locator('summary').click();
    const last = await page.locator('#points tbody tr').last().getByRole('cell').allInnerTexts();
    if (!(await isMissingCounted(page))) expect(numbersIn(last.slice(0, 3))).toEqual(totals);
    const marks = await page.evaluate<string[]>(
      `[...document.querySelectorAll('[data-said]')].map((one) => getComputedStyle(one, '::before').content[1])`,
    );
    const texts = await page.locator('[data-said]').allInnerTexts();
    return { headline, said: texts.map((text, i) => `${marks[i]} ${text}`), totals };
  }

  /** The final shortfall is counted once the run is over, after the last point. */
  const isMissingCounted = async (page: Page): Promise<boolean> =>
    await page.getByRole('row', { name: 'Products missing in the end' }).isVisible();

  it.each(scenarios)(
    '[LAB-1] $scenario with a slow Redis: the naive version is wrong and the atomic version is right',
    async ({ scenario, forMs, callers, naive, atomic, look }) => {
      const page = await open(look);
      await limit(page, forMs);
      const shown = await run(page, scenario, 'Slow Redis', callers);
      expect(shown.said[0]).toMatch(naive);
      expect(shown.said[2]).toMatch(atomic);
      expect(shown.totals[0]).toBeGreaterThan(0);
      expect(shown.totals[2]).toBe(0);
      expect(shown.headline).toMatch(
        /^(?:By hand and atomic|Atomic) got it right\. Naive(?: and by hand)? did not\./,
      );
      expect((await row(page, 'Commands held back'))[0]).toBeGreaterThan(100);
    },
    RUN_MS,
  );

  it.each([
    ['None', undefined],
    ['Killed worker', 'Processes killed'],
  ])(
    '[LAB-1] order retry, %s: the naive version makes orders twice and the atomic version does not',
    async (fault, counted) => {
      const page = await open({ ...DESKTOP, ...LIGHT });
      await limit(page, 40_000);
      const { said, totals } = await run(page, 'Order retry', fault);
      expect(said[0]).toMatch(/^✗ Made \d+ duplicates? of 50 orders\.$/);
      expect(said[2]).toBe('✓ Made 50 orders once.');
      const held = await row(page, 'Orders in Redis');
      expect([held[0], held[2]]).toEqual([50 + totals[0]!, 50]);
      if (counted) expect((await row(page, counted))[0]).toBeGreaterThan(0);
    },
    RUN_MS,
  );

  it(
    '[LAB-1] leaves half a catalogue or a whole one when the importing process is killed',
    async () => {
      const page = await open({ ...DESKTOP, ...LIGHT });
      const { said } = await run(page, 'Catalogue swap', 'Killed worker');
      expect(said[0]).toMatch(/ left \d+ of 400 products\.$/);
      const [naive, , atomic] = await row(page, 'Products in Redis');
      expect(naive).toBeLessThan(400);
      expect(atomic).toBe(400);
    },
    RUN_MS,
  );

  it(
    '[LAB-4] shows on the page that a run was cut short',
    async () => {
      const page = await open({ ...PHONE, ...LIGHT });
      await limit(page, 200);
      await choose(page, 'Withdraw', 'Slow Redis', 200);
      await page.getByRole('button', { name: 'Run' }).click();
      expect(await verdictOf(page)).toMatch(
        /Cut short after 0\.2 s\. Of 4,000 calls were made: naive [\d,]+, by hand [\d,]+, atomic [\d,]+\.$/,
      );
      // The verdict is what one sees first, also where Run was far below it.
      expect(await page.locator('#verdict').boundingBox()).toMatchObject({ y: expect.any(Number) });
      expect(await page.evaluate('scrollY')).toBe(0);
      const { y, height } = (await page.locator('.outcome').boundingBox())!;
      expect(y + height).toBeLessThan(PHONE.viewport.height);
    },
    RUN_MS,
  );

  it('[LAB-4] shows whole comments, explains each latency, and links to the documentation', async () => {
    const page = await open({ ...PHONE, ...LIGHT });
    const cut = await page.evaluate<number>(
      `[...document.querySelectorAll('pre')].filter((one) => one.scrollWidth > one.clientWidth).length`,
    );
    expect(cut).toBe(0);
    for (const text of await page.locator('[data-latency]').allInnerTexts())
      expect(text).toMatch(/round trip/);
    expect(await page.locator('.brand').innerText()).toBe('nestjs-atomic-redis');
    await page.getByRole('link', { name: 'More in the documentation' }).click();
    await page.getByRole('heading', { level: 1, name: /^Optimistic transactions/ }).waitFor();
    await page.getByRole('link', { name: 'Race lab' }).click();
    await page.getByRole('heading', { level: 1, name: 'Race lab' }).waitFor();
  });

  it(
    '[LAB-3] can be used by keyboard alone, and stops on request',
    async () => {
      const page = await open({ ...DESKTOP, ...LIGHT });
      const focused = (): Promise<string> =>
        page.evaluate('document.activeElement.value || document.activeElement.textContent');
      const order: (string | null)[] = [];
      for (const key of [
        'Tab',
        'Tab',
        'Tab',
        'Tab',
        'ArrowRight',
        'Tab',
        'ArrowLeft',
        'Tab',
        'ArrowRight',
        'Tab',
      ]) {
        await page.keyboard.press(key);
        order.push(await focused());
      }
      expect(order).toEqual([
        'nestjs-atomic-redis',
        'Documentation',
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
      expect(await verdictOf(page)).toMatch(
        /^You stopped the run after [\d.]+ s\. These numbers are of that moment, and no verdict\.$/,
      );
      expect(await focused()).toBe('Run');
    },
    RUN_MS,
  );

  it.each(looks.map((look) => [look.viewport.width, look.colorScheme, look] as const))(
    '[LAB-3] has no accessibility violations that axe reports, and nothing wider than the window, at %d px, %s',
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
    '[LAB-3] paints soon, and moves nothing by itself before, during or after a run',
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

/** Returns the distances that elements moved by themselves. */
const LAYOUT_SHIFTS = `new Promise((done) => {
  const sum = (list) => list.getEntries().reduce((all, entry) => all + (entry.hadRecentInput ? 0 : entry.value), 0);
  new PerformanceObserver((list) => done(sum(list))).observe({ type: 'layout-shift', buffered: true });
  // Without any there is nothing to be told.
  setTimeout(() => done(0), 500);
})`;
