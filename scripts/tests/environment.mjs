import vm from 'node:vm';
import { TestEnvironment as NodeEnvironment } from 'jest-environment-node';

/** Scripts of this worker by the names of their files. */
const scripts = new Map();
/** Where coverage is counted by places in a text, these must be those that Jest expects. */
let reuses = true;

const { compileFunction } = vm;

/**
 * Jest gives each spec file modules of its own, some thousand. It compiles each of them anew, which
 * was half of what it takes to load them. As scripts they are compiled once for each worker.
 */
vm.compileFunction = (source, parameters, options) => {
  const script = reuses && options?.parsingContext ? scriptOf(source, parameters, options) : null;
  return script ? script.runInContext(options.parsingContext) : compileFunction(source, parameters, options);
};

/** The script of a module, or null for one with an `import()`: only a function can be told what that is. */
function scriptOf(source, parameters, { filename }) {
  const head = `(function (${parameters.join()}) {`;
  const known = scripts.get(filename);
  if (known?.source === source && known.head === head) return known.script;
  const script = /\bimport\s*\(/.test(source)
    ? null
    : new vm.Script(`${head}${source}\n})`, { filename, columnOffset: -head.length });
  scripts.set(filename, { source, head, script });
  return script;
}

export default class TestEnvironment extends NodeEnvironment {
  constructor(config, context) {
    super(config, context);
    reuses = !config.globalConfig.collectCoverage;
  }
}
