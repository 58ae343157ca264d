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
  'catalogue-swap':
    'Callers count the products of a catalogue while new editions are imported, by both processes at once.',
  'charge-and-record':
    'Each customer pays for a cart, and asks again until it is confirmed. One of the two processes is killed when the payment provider has charged and nobody has recorded it.',
  'stopped-holder':
    'Statements are published under a lock of 1 s. One of the two processes is stopped while it holds the lock, and woken once the other has published.',
  none: 'Nothing goes wrong besides.',
  'lost-reply':
    'Of every 25 writes, one is applied and its reply is lost with the connection. The client connects again and sends it again.',
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
const NAMES = { naive: 'naive', byHand: 'by hand', atomic: 'atomic' };
const SIDES = Object.keys(NAMES);

const form = document.querySelector('#controls');
const go = document.querySelector('#go');
const verdict = document.querySelector('#verdict');
const charts = new Charts(document.querySelector('#charts'));

/** The lab's own description, from the server; undefined until it has arrived. */
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
  const { wrongs, handlers, means, latency, page } = lab.scenarios[scenario];
  document.querySelector('[data-chart-label="total"]').textContent = `Errors: ${Object.values(wrongs)
    .map((label) => label.toLowerCase())
    .join(', ')}`;
  for (const side of SIDES) {
    showHandlers(of('code', side), handlers[side]);
    of('means', side).textContent = means[side];
    of('latency', side).textContent = latency[side];
  }
  document.querySelector('[data-page]').href = `/guide/docs/${page}`;
  clear();
}

/** The element of a side that has this data attribute. */
const of = (name, side) => document.querySelector(`[data-${name}="${side}"]`);

function clear() {
  points = [];
  charts.clear();
  verdict.textContent = 'Choose, and press Run.';
  for (const side of SIDES) {
    of('readout', side).textContent = '–';
    of('said', side).textContent = lab.scenarios[choice.scenario].means[side];
    of('figures', side).textContent = '–';
    delete of('outcome', side).dataset.right;
  }
  showNumbers(undefined);
  showPoints();
}

/** The table; without numbers it has the same rows, so that nothing moves when they come. */
function showNumbers(numbers) {
  const { scenario, fault } = choice;
  const { labels, wrongs, fault: own } = lab.scenarios[scenario];
  const cells = (label, read) => row(label, ...SIDES.map((side) => numbers && read(numbers[side])));
  const body = [
    ...Object.entries(wrongs).map(([name, label]) => cells(label, ({ wrong }) => wrong[name])),
    cells(labels.told, ({ told }) => told),
    cells(labels.held, ({ held }) => held),
    ...ROWS.map(([measure, label]) => cells(label, (side) => side[measure])),
  ];
  const faults = new Set([own, fault !== 'none' && lab.faults[fault].label].filter(Boolean));
  for (const label of faults)
    body.push(row(`${label} (shared)`, ...SIDES.map(() => numbers && (numbers.faults[label] ?? 0))));
  document.querySelector('#numbers tbody').replaceChildren(...body);
}

function showPoints() {
  const measures = [
    ['total', 'Errors'],
    ['accepted', 'Accepted'],
    ['conflict', 'Conflicts'],
    ['p95Ms', 'Latency, ms'],
  ];
  const columns = measures.flatMap(([measure, label]) => SIDES.map((side) => ({ side, measure, label })));
  const head = document.createElement('tr');
  head.append(
    heading('col', 'Second'),
    ...columns.map(({ side, label }) => heading('col', `${label}, ${NAMES[side]}`)),
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
    cell.textContent = shown(value);
    return cell;
  });
  element.append(heading('row', label), ...cells);
  return element;
}

const shown = (value) => (value === undefined || value === null ? '–' : value.toLocaleString('en'));

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
  showTotals(sample);
  showNumbers(sample);
}

function showResult(result) {
  charts.finish();
  showTotals(result);
  showNumbers(result);
  showPoints();
  for (const side of SIDES) {
    const { verdict: said, total, p50Ms, p95Ms } = result[side];
    of('said', side).textContent = `${said[0].toUpperCase()}${said.slice(1)}.`;
    of('outcome', side).dataset.right = total === 0;
    of('figures', side).textContent = `Median ${shown(p50Ms)} ms, 95th percentile ${shown(p95Ms)} ms.`;
  }
  verdict.replaceChildren(headlineOf(result), ...cutShort(result));
}

function showTotals(numbers) {
  for (const side of SIDES) of('readout', side).textContent = shown(numbers[side].total);
}

function headlineOf(result) {
  const [right, wrong] = [true, false].map((is) => SIDES.filter((side) => (result[side].total === 0) === is));
  if (wrong.length === 0) return 'All three got it right this time.';
  if (right.length === 0) return 'None of the three got it right.';
  return `${capital(listed(right))} got it right. ${capital(listed(wrong))} did not.`;
}

/** Told, since sides that made fewer calls had fewer occasions to go wrong. */
function cutShort({ cutShortAfterS, calls, ...result }) {
  if (cutShortAfterS === null) return [];
  const done = SIDES.map((side) => `${NAMES[side]} ${shown(result[side].callsDone)}`).join(', ');
  const note = document.createElement('span');
  note.className = 'cut';
  note.textContent = ` Cut short after ${cutShortAfterS} s. Of ${shown(calls)} calls were made: ${done}.`;
  return [note];
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
const listed = (sides) => sides.map((side) => NAMES[side]).join(' and ');

async function start() {
  const control = (running = new AbortController());
  const fields = [...form.querySelectorAll('input')];
  for (const field of fields) field.disabled = true;
  go.textContent = 'Stop';
  clear();
  verdict.textContent = 'Starting.';
  // The verdict is at the top, and Run may be below it.
  scrollTo(0, 0);
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
    breakOff(control.signal.aborted ? 'You stopped the run' : `The run failed (${error.message})`);
  }
  for (const field of fields) field.disabled = false;
  go.textContent = 'Run';
  running = undefined;
}

/** The numbers so far stay, and say that they are no result. */
function breakOff(why) {
  charts.finish();
  showPoints();
  const last = points.at(-1);
  verdict.textContent = last
    ? `${why} after ${(last.atMs / 1_000).toFixed(1)} s. These numbers are of that moment, and no verdict.`
    : `${why} before it began.`;
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
