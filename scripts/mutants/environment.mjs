import TestEnvironment from '../tests/environment.mjs';

const HOOKS = '(hooks)';
const HOOK_MS = 30_000;

/**
 * Runs some tests of a file, up to the first that fails, and counts which mutants each reaches. What to do is in
 * `globalThis.mutantRun` of the process, which is not the global object of the tests.
 */
export default class MutantEnvironment extends TestEnvironment {
  constructor(config, context) {
    super(config, context);
    this.run = globalThis.mutantRun;
    // Stryker's own name for what its counters fill.
    this.counted = { mutantCoverage: { static: {}, perTest: {} } };
    if (this.run.counts) this.global['__stryker__'] = this.counted;
    this.run.reaches(null);
  }

  handleTestEvent(event, { rootDescribeBlock }) {
    const { run, counted } = this;
    if (event.name === 'run_start') {
      this.reach(HOOKS);
      skip(rootDescribeBlock, (test) => !run.isWanted(nameOf(test)));
      if (run.bails) sort(rootDescribeBlock, run.usualMs);
    } else if (event.name === 'hook_start') {
      if (event.hook.type.endsWith('All')) this.reach(HOOKS);
      if (run.bails) event.hook.timeout = HOOK_MS;
    } else if (event.name === 'test_start') {
      this.reach(nameOf(event.test));
      event.test.timeout = run.timeoutOf(nameOf(event.test)) ?? event.test.timeout;
    } else if (event.name === 'test_fn_failure') {
      run.failed(nameOf(event.test), event.error);
    } else if (event.name === 'test_done') {
      run.done(nameOf(event.test), event.test.duration ?? 0, event.test.errors.length > 0);
      if (run.bails && event.test.errors.length > 0) skip(rootDescribeBlock, ({ status }) => !status);
    } else if (event.name === 'run_finish' && run.counts) {
      run.coverage = counted.mutantCoverage;
    }
  }

  reach(name) {
    this.counted.currentTestId = name;
    this.run.reaches(name);
  }
}

function skip({ children }, applies) {
  for (const child of children) {
    if (child.type === 'describeBlock') skip(child, applies);
    else if (applies(child)) child.mode = 'skip';
  }
}

/** Puts the quickest first, a block by the quickest test in it. Returns how long that takes. */
function sort({ children }, usualMs) {
  const keys = new Map(
    children.map((child) => [
      child,
      child.type === 'describeBlock' ? sort(child, usualMs) : (usualMs(nameOf(child)) ?? Infinity),
    ]),
  );
  // oxlint-disable-next-line unicorn/no-array-sort -- Jest runs them in the order of its own array
  children.sort((a, b) => (keys.get(a) < keys.get(b) ? -1 : keys.get(a) > keys.get(b) ? 1 : 0));
  return Math.min(Infinity, ...keys.values());
}

function nameOf({ name, parent }) {
  return parent && parent.name !== 'ROOT_DESCRIBE_BLOCK' ? `${nameOf(parent)} ${name}` : name;
}
