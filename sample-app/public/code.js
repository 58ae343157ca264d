const PARTS = [
  ['comment', /\/\*\*[\s\S]*?\*\/|\/\/.*/],
  ['text', /'[^'\n]*'|`[^`]*`/],
  ['decorator', /@\w+/],
  ['keyword', /\b(?:async|await|catch|const|finally|for|if|of|new|private|return|throw|try|while)\b/],
];
const ANY = new RegExp(PARTS.map(([kind, { source }]) => `(?<${kind}>${source})`).join('|'), 'g');

/** Shows one side's handlers: for each its file and its text. */
export function showHandlers(place, handlers) {
  const parts = handlers.flatMap(({ file, code }) => {
    const name = document.createElement('p');
    name.className = 'file';
    name.textContent = file;
    const block = document.createElement('pre');
    const text = document.createElement('code');
    text.append(...joined(code).split('\n').map(lineOf));
    block.append(text);
    return [name, block];
  });
  place.replaceChildren(...parts);
}

/** A comment of several lines is one paragraph here, since it wraps by itself. */
function joined(code) {
  return code
    .replaceAll(/^( *\/\/.*)(?:\n *\/\/ ?(.*))+/gm, (comment) => comment.replaceAll(/\n *\/\/ ?/g, ' '))
    .replaceAll(/^ *\/\*\*[^]*?\*\//gm, (comment) => comment.replaceAll(/\n *(?:\* )?/g, ' '));
}

/** One line, which goes on two columns further in where it wraps. */
function lineOf(line) {
  const element = document.createElement('span');
  element.className = 'line';
  element.style.setProperty('--indent', line.search(/\S|$/));
  // An empty line has a height too.
  element.append(...coloured(line.trimStart() || '\u200b'));
  return element;
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
