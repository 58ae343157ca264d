import { Module } from '@nestjs/common';
import { AtomicRedisModule } from 'nestjs-atomic-redis';
import { MailsController } from './mails.controller.js';
import { MailsService } from './mails.service.js';
import { orderMails } from './order-mails.js';

const queue = AtomicRedisModule.forFeature([orderMails]);

@Module({
  imports: [queue],
  controllers: [MailsController],
  providers: [MailsService],
  exports: [MailsService, queue],
})
export class MailsModule {}
