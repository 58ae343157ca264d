import type { OpenAPIObject } from '@nestjs/swagger';
import { faultsOf, operationsOf } from '../openapi/document.js';
import { read, useShops } from './shop.js';

describe('the OpenAPI document of the shop', () => {
  const running = useShops();
  let document: OpenAPIObject;

  beforeAll(async () => {
    document = await read(running.shop, '/docs-json');
  });

  it('[SHOP-13] is sound, and says what every endpoint takes and answers', () => {
    expect(faultsOf(document)).toEqual([]);
    const operations = operationsOf(document);
    expect(operations.size).toBeGreaterThan(25);
    for (const [name, { responses }] of operations) {
      const [status, success] = Object.entries(responses).find(([one]) => one.startsWith('2'))!;
      const schema = success.content?.['application/json']?.schema;
      if (status === '204' || name === 'GET /') continue;
      expect([name, schema?.$ref ?? schema?.properties]).toEqual([name, expect.anything()]);
    }
  });

  it('[SHOP-13] shows the Idempotency-Key header and the problems of orders', () => {
    const { parameters, responses } = operationsOf(document).get('POST /orders')!;
    expect(parameters.map(({ name }) => name)).toEqual(['Idempotency-Key']);
    expect(Object.keys(responses)).toEqual(['201', '400', '409', '422', '503']);
    expect(responses['201']!.headers).toHaveProperty('Idempotency-Replayed');
  });

  it('[SHOP-13] has a page that needs nothing from elsewhere', async () => {
    const { url } = running.shop;
    const page = await (await fetch(`${url}/docs`)).text();
    const assets = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, one]) => one!);
    expect(assets.length).toBeGreaterThan(3);
    for (const asset of assets) {
      expect(asset).not.toMatch(/^(?:https?:)?\/\//);
      expect((await fetch(new URL(asset, `${url}/docs`))).status).toBe(200);
    }
  });
});
