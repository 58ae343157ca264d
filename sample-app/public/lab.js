import { Charts } from './charts.js';
import { showHandlers } from './code.js';
import { run } from './run.js';

const ABOUT = {
  withdraw:
    'Each caller withdraws one cent, again and again, from an account that has enough for half of the calls.',
  stock:
    'Each caller reserves one unit, again and again, of an article that has enough for half of the calls.',
  'order-retry':
    'Each order is sent twice at once under one Idempotency-Key, and again until it is answered.',
  counter: 'Each call counts one view of a product.',
  'catalogue-swap': 'Callers count the products of a catalogue while new editions are imported.',
  none: 'Nothing goes wrong besides.',
  'lost-reply': 'Of every 25 writes, one is applied and its reply is lost with the connection.',
  'slow-redis': 'Every command waits 2 ms before it reaches Redis.',
  'killed-worker': 'One of the two processes is killed by SIGKILL on the way.',
};
/** Rows of the table after those that the scenario names. */
const ROWS = [
  ['accepted', 'Accepted (2xx)'],
  ['conflict', 'Conflicts (409)'],
  ['failed', 'Other errors'],
  ['unanswered', 'No answer'],
  ['p50Ms', 'Latency, median, ms'],
  ['p95Ms', 'Latency, 95th percentile, ms'],
];
const SIDES = ['naive', 'atomic'];

const form = document.querySelector('#controls');
const go = document.querySelector('#go');
const verdict = document.querySelector('#verdict');
const charts = new Charts(document.querySelector('#charts'));

/** What the lab has, as the server says; undefined until it has said so. */
let lab;
/** Ends the run that goes on; undefined between runs. */
let running;
let choice;
let points = [];

function showChoice() {
  const data = new FormData(form);
  const [scenario, fault, callers] = ['scenario', 'fault', 'callers'].map((name) => data.get(name));
  choice = { scenario, fault, callers: Number(callers) };
  document.querySelector('#callers-shown').textContent = callers;
  document.querySelector('#about').textContent = `${ABOUT[scenario]} ${ABOUT[fault]}`;
  if (!lab) return;
  const { labels, handlers } = lab.scenarios[scenario];
  for (const place of document.querySelectorAll('[data-lost-label]'))
    place.textContent = labels.lost.toLowerCase();
  document.querySelector('[data-chart-label="lost"]').textContent = labels.lost;
  const oversold = document.querySelector('[data-chart-label="oversold"]');
  oversold.textContent = labels.oversold ?? 'Oversold (nothing is sold here)';
  for (const side of SIDES) showHandlers(document.querySelector(`[data-source="${side}"]`), handlers[side]);
  clear();
}

function clear() {
  points = [];
  charts.clear();
  verdict.textContent = 'Choose, and press Run.';
  for (const side of SIDES) showReadout(side, '–');
  showNumbers(undefined);
  showPoints();
}

const showReadout = (side, value) => {
  document.querySelector(`[data-readout="${side}"]`).textContent = value;
};

/** The table; without numbers it has the same rows, so that nothing moves when they come. */
function showNumbers(numbers) {
  const { scenario, fault } = choice;
  const { lost, oversold, told, held } = lab.scenarios[scenario].labels;
  const rows = [
    ['lost', lost],
    ...(oversold ? [['oversold', oversold]] : []),
    ['told', told],
    ['held', held],
    ...ROWS,
  ];
  const body = rows.map(([measure, label]) => row(label, ...SIDES.map((side) => numbers?.[side][measure])));
  if (fault !== 'none')
    body.push(row(`${lab.faults[fault].label} (shared)`, numbers?.faults, numbers?.faults));
  document.querySelector('#numbers tbody').replaceChildren(...body);
}

function showPoints() {
  const { oversold, lost } = lab.scenarios[choice.scenario].labels;
  const measures = [
    ['lost', lost],
    ...(oversold ? [['oversold', oversold]] : []),
    ['accepted', 'Accepted'],
    ['conflict', 'Conflicts'],
    ['p95Ms', 'Latency, ms'],
  ];
  const columns = measures.flatMap(([measure, label]) => SIDES.map((side) => ({ side, measure, label })));
  const head = document.createElement('tr');
  head.append(
    heading('col', 'Second'),
    ...columns.map(({ side, label }) => heading('col', `${label}, ${side}`)),
  );
  document.querySelector('#points thead').replaceChildren(head);
  const rows = points.map((point) =>
    row((point.atMs / 1_000).toFixed(1), ...columns.map(({ side, measure }) => point[side][measure])),
  );
  document.querySelector('#points tbody').replaceChildren(...rows);
}

function row(label, ...values) {
  const element = document.createElement('tr');
  const cells = values.map((value) => {
    const cell = document.createElement('td');
    cell.textContent = value === undefined || value === null ? '–' : value.toLocaleString('en');
    return cell;
  });
  element.append(heading('row', label), ...cells);
  return element;
}

function heading(scope, text) {
  const element = document.createElement('th');
  element.scope = scope;
  element.textContent = text;
  return element;
}

function showSample(sample) {
  if (points.length === 0) verdict.textContent = 'Running.';
  points.push(sample);
  charts.add(sample);
  showLost(sample);
  showNumbers(sample);
}

function showResult(result) {
  charts.finish();
  showLost(result);
  showNumbers(result);
  showPoints();
  verdict.textContent = result.verdict;
}

function showLost(numbers) {
  for (const side of SIDES) showReadout(side, numbers[side].lost.toLocaleString('en'));
}

async function start() {
  const control = (running = new AbortController());
  const fields = [...form.querySelectorAll('input')];
  for (const field of fields) field.disabled = true;
  go.textContent = 'Stop';
  clear();
  verdict.textContent = 'Starting.';
  try {
    let last;
    for await (const event of run(choice, control.signal)) {
      last = event;
      if (event.type === 'sample') showSample(event);
    }
    // Once all is cleared away, and the next run may begin.
    if (last?.type === 'result') showResult(last);
    else throw new Error('it broke off');
  } catch (error) {
    verdict.textContent = control.signal.aborted ? 'Stopped.' : `The run failed: ${error.message}`;
  }
  for (const field of fields) field.disabled = false;
  go.textContent = 'Run';
  running = undefined;
}

form.addEventListener('input', showChoice);
form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (running) running.abort();
  else if (lab) void start();
});

try {
  const response = await fetch('/lab');
  lab = await response.json();
} catch (error) {
  verdict.textContent = `The lab does not answer: ${error.message}`;
}
// The browser may have kept an earlier choice.
showChoice();
