const PARTS = [
  ['comment', /\/\*\*[\s\S]*?\*\/|\/\/.*/],
  ['text', /'[^'\n]*'|`[^`]*`/],
  ['decorator', /@\w+/],
  ['keyword', /\b(?:async|await|const|for|if|of|new|private|return|throw|while)\b/],
];
const ANY = new RegExp(PARTS.map(([kind, { source }]) => `(?<${kind}>${source})`).join('|'), 'g');

/** Shows one side's handlers: for each the file that it is in, and its text. */
export function showHandlers(panel, handlers) {
  const parts = handlers.flatMap(({ file, code }) => {
    const name = document.createElement('p');
    name.className = 'file';
    name.textContent = file;
    const block = document.createElement('pre');
    // It scrolls, so it must be reachable without a mouse.
    block.tabIndex = 0;
    block.setAttribute('role', 'region');
    block.setAttribute('aria-label', `${panel.dataset.source} handler in ${file}`);
    const text = document.createElement('code');
    text.append(...coloured(code));
    block.append(text);
    return [name, block];
  });
  panel.replaceChildren(panel.querySelector('h3'), ...parts);
}

function* coloured(code) {
  let at = 0;
  for (const { 0: text, index, groups } of code.matchAll(ANY)) {
    yield code.slice(at, index);
    const span = document.createElement('span');
    span.className = Object.keys(groups).find((kind) => groups[kind] !== undefined);
    span.textContent = text;
    yield span;
    at = index + text.length;
  }
  yield code.slice(at);
}
