import { Module } from '@nestjs/common';
import { MailsModule } from '../mails/mails.module.js';
import { OrdersModule } from '../orders/orders.module.js';
import { NaiveController } from './naive.controller.js';
import { NaiveService } from './naive.service.js';

@Module({
  imports: [OrdersModule, MailsModule],
  controllers: [NaiveController],
  providers: [NaiveService],
})
export class NaiveModule {}
