const HEADERS = {
  'Content-Security-Policy':
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
};

/** What a browser is told of every page of the shop's own: nothing comes from elsewhere. */
export function setPageHeaders(response: { setHeader(name: string, value: string): void }): void {
  for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
}
