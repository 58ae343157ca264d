import { defineQueue } from 'nestjs-atomic-redis';
import type { Order } from '../orders/order.dto.js';

export interface OrderMail {
  /** The number of an order, or the cart of a checkout. */
  order: string;
  text: string;
}

export const orderMails = defineQueue<OrderMail>('order-mails');

export const mailFor = ({ id, sku, quantity }: Order): OrderMail => ({
  order: String(id),
  text: `Thank you for your order of ${quantity} ${sku}`,
});
