import { ConflictException, NotFoundException } from '@nestjs/common';

export class NoSuchAccountException extends NotFoundException {
  constructor(id: string) {
    super(`There is no account ${id}`);
  }
}

export class InsufficientFundsException extends ConflictException {
  constructor(balance: number, amount: number) {
    super({
      message: `The balance is ${balance}: too little for a withdrawal of ${amount}`,
      code: 'INSUFFICIENT_FUNDS',
    });
  }
}
