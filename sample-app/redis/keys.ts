/** In front of every key of the library. */
export const NAMESPACE = 'shop:';

/**
 * Every key of the shop's own. What is in braces is the hash tag: on a Redis Cluster all keys of
 * one entity share a node, so that one transaction can change them together.
 */
/** Numbers have gaps: that of an order that was not kept is not given out again. */
export const lastOrderIdKey = 'orders:last-id';
export const orderCountKey = 'orders:count';
export const orderKey = (id: number): string => `order:{${id}}`;
/** All accounts share a tag: a transfer changes any two of them, and its log, in one step. */
export const balanceKey = (accountId: string): string => `account:{bank}:${accountId}`;
export const transfersKey = 'transfers:{bank}';
export const statementsKey = (accountId: string): string => `statements:{${accountId}}`;
/** The checkout's key: the order of a cart, beside the stock that it took. */
export const paidOrderKey = (sku: string, cart: string): string => `inventory:{${sku}}:order:${cart}`;
export const sentMailsKey = 'mails:sent';
export const stockKey = (sku: string): string => `inventory:{${sku}}`;
export const reservationsKey = (sku: string): string => `inventory:{${sku}}:reservations`;
export const productKey = (sku: string): string => `product:{${sku}}`;
export const priceLogKey = (sku: string): string => `product:{${sku}}:price-log`;
export const descriptionKey = (sku: string): string => `product:{${sku}}:description`;
export const viewsKey = (sku: string): string => `product:{${sku}}:views`;
/** The published texts of an article, the latest last. */
export const salesStatementsKey = (sku: string): string => `product:{${sku}}:sales-statements`;
export const catalogKey = 'catalog';
export const naiveCatalogKey = 'naive:catalog';
export const voucherKey = (code: string): string => `voucher:{${code}}`;
/** The payment provider's own. */
export const providerBookKey = (sku: string): string => `provider:{${sku}}`;
export const naiveReplyKey = (idempotencyKey: string): string => `naive:reply:{${idempotencyKey}}`;
export const byHandReplyKey = (idempotencyKey: string): string => `by-hand:reply:{${idempotencyKey}}`;
export const naiveReceiptKey = (idempotencyKey: string): string => `naive:receipt:{${idempotencyKey}}`;
export const byHandReceiptKey = (idempotencyKey: string): string => `by-hand:receipt:{${idempotencyKey}}`;
export const byHandCatalogKey = 'by-hand:catalog';
export const unfinishedCatalogKey = 'by-hand:catalog:unfinished';
export const lockKey = (key: string): string => `${key}:lock`;
