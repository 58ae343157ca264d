import { Module } from '@nestjs/common';
import { MailsModule } from '../mails/mails.module.js';
import { OrdersModule } from '../orders/orders.module.js';
import { ByHandController } from './by-hand.controller.js';
import { ByHandService } from './by-hand.service.js';

@Module({
  imports: [OrdersModule, MailsModule],
  controllers: [ByHandController],
  providers: [ByHandService],
})
export class ByHandModule {}
