import ts from 'typescript';

/** it, test, describe, and what a suite derives from them: itOnCluster, describeDragonfly. */
const testFunction = /^(?:f?it|test|f?describe)(?:[A-Z]\w*)?$/;
const inactive = new Set(['skip', 'todo']);

/**
 * The titles of the tests that run, and of the groups that hold one, as source text. Skipped ones
 * prove nothing.
 */
export function titlesIn(source, fileName) {
  const file = ts.createSourceFile(fileName, source, ts.ScriptTarget.Latest, true);
  return collect(file).titles;
}

function collect(node) {
  const inner = { titles: [], hasTest: false };
  const call = ts.isCallExpression(node) ? testCall(node) : null;
  if (call?.skipped) return inner;
  ts.forEachChild(node, (child) => {
    const { titles, hasTest } = collect(child);
    inner.titles.push(...titles);
    inner.hasTest ||= hasTest;
  });
  if (!call) return inner;
  const hasTest = inner.hasTest || !call.isGroup;
  return { titles: hasTest ? [node.arguments[0].getText(), ...inner.titles] : [], hasTest };
}

function testCall(node) {
  const title = node.arguments[0];
  // it.each(table) is a call too; the one with the title is around it.
  if (!title || !isText(title)) return null;
  return testFunctionOf(node.expression);
}

function isText(node) {
  if (ts.isBinaryExpression(node)) return isText(node.left) || isText(node.right);
  return ts.isStringLiteralLike(node) || ts.isTemplateExpression(node);
}

/** Follows `(onCi ? it : it.skip).each(table)` down to its names. */
function testFunctionOf(node) {
  if (ts.isIdentifier(node)) {
    return testFunction.test(node.text) ? { isGroup: node.text.includes('describe'), skipped: false } : null;
  }
  if (ts.isConditionalExpression(node)) {
    const branches = [testFunctionOf(node.whenTrue), testFunctionOf(node.whenFalse)].filter(Boolean);
    return branches.find((branch) => !branch.skipped) ?? branches[0] ?? null;
  }
  if (ts.isPropertyAccessExpression(node)) {
    const found = testFunctionOf(node.expression);
    return found && { ...found, skipped: found.skipped || inactive.has(node.name.text) };
  }
  if (ts.isCallExpression(node) || ts.isParenthesizedExpression(node)) return testFunctionOf(node.expression);
  if (ts.isTaggedTemplateExpression(node)) return testFunctionOf(node.tag);
  return null;
}
