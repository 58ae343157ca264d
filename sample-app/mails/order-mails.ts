import { defineQueue } from 'nestjs-atomic-redis';

export interface OrderMail {
  /** The number of an order, or the cart of a checkout. */
  order: string;
  text: string;
}

export const orderMails = defineQueue<OrderMail>('order-mails');
