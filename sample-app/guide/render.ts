import MarkdownIt from 'markdown-it';

/** The title and the HTML of one page of the documentation. */
export interface RenderedPage {
  title: string;
  html: string;
}

/**
 * Renders a page of docs/ for the guide. A relative link leads to the page's address below
 * `/guide`; a heading has the anchor that GitHub would give it.
 *
 * @param path of the Markdown file below the repository's root
 */
export function renderPage(markdown: string, path: string): RenderedPage {
  const renderer = new MarkdownIt({ html: false, linkify: false });
  const { rules } = renderer.renderer;
  const anchors = new Map<string, number>();

  rules['heading_open'] = (tokens, index, options, _env, self) => {
    const slug = slugOf(tokens[index + 1]!.content);
    const before = anchors.get(slug) ?? 0;
    anchors.set(slug, before + 1);
    tokens[index]!.attrSet('id', before === 0 ? slug : `${slug}-${before}`);
    return self.renderToken(tokens, index, options);
  };
  rules['link_open'] = (tokens, index, options, _env, self) => {
    tokens[index]!.attrSet('href', addressOf(tokens[index]!.attrGet('href') ?? '', path));
    return self.renderToken(tokens, index, options);
  };
  // Content wider than the page scrolls by itself, so it must be reachable by keyboard.
  rules['table_open'] = () => '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>';
  rules['table_close'] = () => '</table></div>';

  const html = renderer.render(markdown);
  const [, title] = /^# (.+)$/m.exec(markdown) ?? [];
  return { title: title?.replaceAll('`', '') ?? path, html };
}

/** As GitHub does: lower case, without punctuation, hyphens for spaces. */
function slugOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replaceAll(/\s/g, '-');
}

/** Links within the documentation stay in the guide; others, and anchors, are as they were. */
function addressOf(href: string, path: string): string {
  if (/^[a-z]+:|^#/i.test(href)) return href;
  const { pathname, hash } = new URL(href, `file:///${path}`);
  return pathname.endsWith('.md') ? `/guide${pathname.replace(/\.md$/, '')}${hash}` : href;
}
