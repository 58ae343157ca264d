/** The part that the guide uses; the package brings no types. */
declare module 'markdown-it' {
  interface Token {
    content: string;
    attrGet(name: string): string | null;
    attrSet(name: string, value: string): void;
  }
  type Rule = (tokens: Token[], index: number, options: object, env: object, self: Renderer) => string;
  interface Renderer {
    rules: Record<string, Rule | undefined>;
    renderToken(tokens: Token[], index: number, options: object): string;
  }
  export default class MarkdownIt {
    constructor(options?: { html?: boolean; linkify?: boolean });
    readonly renderer: Renderer;
    render(markdown: string): string;
  }
}
