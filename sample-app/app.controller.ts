import { Controller, Get } from '@nestjs/common';

@Controller()
export class AppController {
  /**
   * Lists the endpoints. If the race lab runs, its page is here instead, and the endpoints are at
   * /docs.
   */
  @Get()
  index(): object {
    return {
      'POST /orders': '{ sku, quantity }, Idempotency-Key header: one order for each key',
      'GET /orders': 'how many orders there are',
      'GET /orders/:id': 'one order',
      'POST /checkout':
        '{ cart, sku, quantity, card }, Idempotency-Key header: reserves, charges and confirms, once each, through crashes',
      'GET /checkout/:sku/:cart': 'the order of a cart',
      'PUT /vouchers/:code': '{ cents }',
      'POST /vouchers/redemptions': '{ code }: once; five attempts in a minute, twenty in an hour',
      'POST /sales/:sku/statements': 'publishes what was charged for an article; one process at a time',
      'GET /sales/:sku/statements': 'what was published',
      'GET /mails': 'of orders: waiting in the queue, being sent, given up, sent',
      'PUT /accounts/:id': '{ balance }',
      'GET /accounts/:id': 'the balance',
      'POST /accounts/:id/withdrawals': '{ amount }: never more than the balance',
      'POST /accounts/:id/transfers': '{ to, amount }: never more than the balance, and no cent is lost',
      'POST /accounts/:id/statements':
        'balance and latest transfers; three of them, then one each ten seconds',
      'PUT /inventory/:sku': '{ stock }',
      'GET /inventory/:sku': 'the stock, and how many reservations it has seen',
      'POST /inventory/:sku/reservations': '{ quantity }: never more than the stock',
      'POST /inventory/carts': '{ lines: [{ sku, quantity }, …] }: all of them or none',
      'POST /inventory/:sku/holds': '{ quantity, seconds }: given back unless bought by then',
      'PUT /inventory/holds/:id/purchase': 'buys what is held',
      'DELETE /inventory/holds/:id': 'gives it back',
      'POST /products/:sku/views': 'counts a view',
      'PUT /products/:sku/price': '{ cents, changedBy }: answers with the price before',
      'GET /products/:sku/price/history': 'who changed the price, when, and from what to what',
      'PUT /products/:sku/description':
        '{ text }, If-Match or If-None-Match header: never over a text that the client has not seen',
      'GET /products/:sku/description': 'the text, with its ETag',
      'POST /catalog/imports': '{ edition, products }: seen whole, once it is all there',
      'GET /catalog/imports/latest': 'how far it has come',
      'POST /catalog/rollback': 'back to the catalogue before',
      'GET /catalog': 'how many products there are',
      'GET /catalog/:sku': 'one product',
      'GET /health': 'whether Redis answers, and how the connections are',
      'GET /docs': 'all of this with bodies, headers and problems, to try out; GET /docs-json for programs',
      'POST /naive/orders': 'the same, done wrong',
      'POST /naive/accounts/:id/withdrawals': 'the same, done wrong',
      'POST /naive/inventory/:sku/reservations': 'the same, done wrong',
      'POST /naive/products/:sku/views': 'the same, done wrong',
      'POST /naive/catalog/imports': 'the same, done wrong',
      'GET /naive/catalog': 'the same, done wrong',
      'POST /naive/checkout': 'the same, done wrong',
      'POST /naive/sales/:sku/statements': 'the same, done wrong',
      'POST /by-hand/…, GET /by-hand/catalog':
        'the same eight by the usual means: a lock, DECRBY, SET NX, INCR, RENAME',
    };
  }
}
