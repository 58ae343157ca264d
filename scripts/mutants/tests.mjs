import { fork } from 'node:child_process';
import {
  closeSync,
  cpSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { output, root, ScriptError } from '../setup/process.mjs';

/** Timers and clients that a broken test leaves behind end with the process. */
const RUNS_PER_PROCESS = 40;
const LARGEST_BYTES = 1.2e9;
/** It stands still while it loads modules, which takes long on a busy machine. */
const SILENT_MS = 120_000;
/** An endless loop ends sooner: all is loaded when the mutants come. */
const SILENT_WITH_MUTANT_MS = 40_000;
/** Once a test has failed, what closes behind it is of no more interest. */
const CLOSING_MS = 10_000;
const LONGEST_MS = 600_000;

/** A copy of the tree that is this run's own, and a process that runs its tests. */
export class Tests {
  #worker = null;
  #runs = 0;
  #isWorn = false;

  constructor(env) {
    this.env = env;
    this.directory = mkdtempSync(join(realpathSync(tmpdir()), 'mutants-'));
    this.tree = join(this.directory, 'tree');
    process.once('exit', () => this.remove());
    copyTree(this.tree);
  }

  read(path) {
    return readFileSync(join(this.tree, path), 'utf8');
  }

  write(path, text) {
    writeFileSync(join(this.tree, path), text);
  }

  /** Runs tests while files have other texts. */
  async runWith(texts, request) {
    const earlier = Object.keys(texts).map((path) => [path, this.read(path)]);
    try {
      for (const [path, text] of Object.entries(texts)) this.write(path, text);
      const result = await this.run(request);
      // An earlier mutant may have left something that ended the process.
      return result.died ? await this.run(request) : result;
    } finally {
      for (const [path, text] of earlier) this.write(path, text);
    }
  }

  /** Answers with `hung: true` for a process that no longer answers, and with `died: { code, stderr }` for one that ends. */
  run(request) {
    if (this.#isWorn || ++this.#runs > RUNS_PER_PROCESS || !this.#worker?.connected) this.end();
    const worker = (this.#worker ??= this.#start());
    return new Promise((resolve, reject) => {
      let silence;
      let closing;
      const settle = (act, value) => {
        for (const timer of [silence, closing, end]) clearTimeout(timer);
        forget(worker);
        act(value);
      };
      const giveUp = (why) => {
        this.end();
        settle(resolve, { passed: 0, failures: [], broken: null, times: [], ...why });
      };
      const hang = () => giveUp({ hung: true });
      const end = setTimeout(hang, LONGEST_MS);
      const listen = () => {
        clearTimeout(silence);
        silence = setTimeout(hang, request.bails ? SILENT_WITH_MUTANT_MS : SILENT_MS);
      };
      listen();
      worker.on('message', (message) => {
        if (message.beat) return listen();
        if (message.failed) {
          closing ??= setTimeout(() => giveUp({ failures: [message.failed] }), CLOSING_MS);
          return;
        }
        this.#isWorn = message.rss > LARGEST_BYTES;
        if (message.error)
          settle(reject, new ScriptError(`Jest broke off in ${request.spec}: ${message.error}`));
        else settle(resolve, message);
      });
      worker.once('exit', (code, signal) =>
        giveUp({ died: { code: code ?? signal, stderr: this.#lastErrors() } }),
      );
      worker.once('error', ({ message }) => giveUp({ died: { code: message, stderr: this.#lastErrors() } }));
      worker.send(request);
    });
  }

  #start() {
    const errors = openSync(this.#errors, 'w');
    try {
      return fork(new URL('worker.mjs', import.meta.url), [this.tree], {
        cwd: this.tree,
        env: this.env,
        stdio: ['ignore', 'ignore', process.env.MUTANTS_DEBUG ? 'inherit' : errors, 'ipc'],
      });
    } finally {
      closeSync(errors);
    }
  }

  get #errors() {
    return join(this.directory, 'errors.txt');
  }

  #lastErrors() {
    return readFileSync(this.#errors, 'utf8').slice(-2_000);
  }

  end() {
    this.#runs = 0;
    this.#isWorn = false;
    if (!this.#worker) return;
    forget(this.#worker);
    this.#worker.kill('SIGKILL');
    this.#worker = null;
  }

  remove() {
    this.end();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Works through the items in their order, one at a time in each tree. */
export async function spread(trees, items, work) {
  const rest = items[Symbol.iterator]();
  await Promise.all(
    trees.map(async (tests) => {
      for (let next = rest.next(); !next.done; next = rest.next()) await work(tests, next.value);
    }),
  );
}

/** An error of a process that is of no more interest must not end this one. */
function forget(worker) {
  worker.removeAllListeners();
  worker.on('error', () => {});
}

/** Copies what git knows or would take, with changes that are not committed; node_modules is shared. */
function copyTree(tree) {
  const listed = output('git', ['ls-files', '--cached', '--others', '--exclude-standard', '--deduplicate'], {
    cwd: root,
  });
  if (listed === null) throw new ScriptError('git cannot list the files of this directory');
  const deleted = new Set(output('git', ['ls-files', '--deleted'], { cwd: root })?.split('\n'));
  for (const file of listed.split('\n')) {
    if (!deleted.has(file)) cpSync(join(root, file), join(tree, file), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'), 'junction');
}
