import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import { faultsOf, operationsOf } from '../openapi/document.js';
import { useExample } from './examples.js';

describe('the example of docs/openapi.md', () => {
  const example = useExample('docs/openapi.md');

  it('documents its routes as the page says, and the routes answer accordingly', async () => {
    const document = SwaggerModule.createDocument(example.app, new DocumentBuilder().build());
    expect(faultsOf(document)).toEqual([]);
    const operations = operationsOf(document);
    expect(Object.keys(operations.get('POST /orders')!.responses)).toEqual([
      '201',
      '400',
      '409',
      '422',
      '503',
    ]);
    expect(Object.keys(operations.get('POST /tickets/{event}')!.responses)).toEqual(['201', '409', '503']);

    expect((await example.send('POST', '/orders', { sku: 'tea' })).status).toBe(400);
    const order = () => example.send('POST', '/orders', { sku: 'tea' }, { 'idempotency-key': 'a' });
    expect((await order()).headers.get('idempotency-replayed')).toBeNull();
    expect((await order()).headers.get('idempotency-replayed')).toBe('true');
    const sales = [1, 2, 3].map(() => example.send('POST', '/tickets/gig'));
    const statuses = (await Promise.all(sales)).map(({ status }) => status);
    expect(statuses.toSorted((a, b) => a - b)).toEqual([201, 201, 409]);
  });
});
