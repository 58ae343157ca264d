const HEADERS = {
  'Content-Security-Policy':
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
};

/** Headers of the shop's own pages: the browser may load nothing from other hosts. */
export function setPageHeaders(response: { setHeader(name: string, value: string): void }): void {
  for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
}
