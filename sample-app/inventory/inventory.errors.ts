import { ConflictException } from '@nestjs/common';
import type { CartLineDto } from './inventory.dto.js';

export class CartNotInStockException extends ConflictException {
  constructor(missing: CartLineDto[]) {
    super({
      message: `There is too little of ${missing.map(({ sku }) => sku).join(', ')}; nothing was reserved`,
      code: 'NOT_IN_STOCK',
    });
  }
}

export class HoldGoneException extends ConflictException {
  constructor() {
    super({ message: 'This hold has expired, or was bought or released before', code: 'HOLD_GONE' });
  }
}
