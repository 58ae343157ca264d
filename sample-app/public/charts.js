import uPlot from './uplot/uPlot.esm.js';

const SIDES = ['naive', 'byHand', 'atomic'];
/** Not by colour alone: each side has a dash of its own, as beside its name. */
const LINES = [
  { label: 'Naive', colour: '--naive', dash: [] },
  { label: 'By hand', colour: '--by-hand', dash: [2, 3] },
  { label: 'Atomic', colour: '--atomic', dash: [7, 4] },
];
const SYNC = uPlot.sync('lab');
/** Without motion the plots appear once they are complete. */
const STILL = matchMedia('(prefers-reduced-motion: reduce)');

/** One plot for each measure, all sides in each, on one time axis. */
export class Charts {
  #plots = [];
  #samples = [];

  constructor(container) {
    this.container = container;
    this.#build();
    // Colours are read when a plot is made, and canvases do not follow their boxes.
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#build());
    new ResizeObserver(() => this.#resize()).observe(container);
  }

  clear() {
    this.#samples = [];
    this.#draw();
    this.#note(() => 'Press Run');
  }

  add(sample) {
    this.#samples.push(sample);
    if (STILL.matches) return;
    this.#note(() => '');
    this.#draw();
  }

  finish() {
    this.#draw();
    // A plot without a line off its axis looks broken unless it says so.
    this.#note((measure) => (this.#isZero(measure) ? 'None on any side' : ''));
  }

  #isZero(measure) {
    return this.#samples.every((sample) => SIDES.every((side) => !sample[side][measure]));
  }

  #note(textOf) {
    for (const { box, measure } of this.#plots) box.dataset.note = textOf(measure);
  }

  #build() {
    for (const { plot } of this.#plots) plot.destroy();
    this.#plots = [...this.container.querySelectorAll('[data-chart]')].map((box) => {
      const measure = box.dataset.chart;
      return { measure, box, plot: new uPlot(options(box), this.#dataOf(measure), box) };
    });
  }

  #draw() {
    for (const { measure, plot } of this.#plots) plot.setData(this.#dataOf(measure));
  }

  #dataOf(measure) {
    return [
      this.#samples.map(({ atMs }) => atMs / 1_000),
      ...SIDES.map((side) => this.#samples.map((sample) => sample[side][measure])),
    ];
  }

  #resize() {
    for (const { box, plot } of this.#plots) {
      const { width, height } = sizeOf(box);
      if (width > 0 && (width !== plot.width || height !== plot.height)) plot.setSize({ width, height });
    }
  }
}

function options(box) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour('--muted'),
    font: `11px ${style.getPropertyValue('--sans')}`,
    grid: { stroke: colour('--grid'), width: 1 },
    ticks: { show: false },
  };
  return {
    ...sizeOf(box),
    legend: { show: false },
    cursor: { sync: { key: SYNC.key }, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { time: false, range: (_, __, max) => [0, Math.max(2, max ?? 0)] },
      y: { range: (_, __, max) => [0, Math.max(4, (max ?? 0) * 1.1)] },
    },
    axes: [
      { ...axis, size: 24, gap: 4, values: (_, ticks) => ticks.map((tick) => `${tick} s`), space: 60 },
      {
        ...axis,
        size: 44,
        gap: 6,
        space: 28,
        incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000],
      },
    ],
    series: [
      {},
      ...LINES.map((line) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: 2,
        dash: line.dash,
        points: { show: false },
        spanGaps: true,
      })),
    ],
  };
}

const sizeOf = (box) => ({ width: box.clientWidth, height: box.clientHeight });
