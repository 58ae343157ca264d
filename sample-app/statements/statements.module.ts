import { Module } from '@nestjs/common';
import { AtomicRedisModule } from 'nestjs-atomic-redis';
import { AccountsModule } from '../accounts/accounts.module.js';
import { StatementsController } from './statements.controller.js';
import { StatementsService } from './statements.service.js';
import { takeTokenScript } from './take-token.script.js';

@Module({
  imports: [AccountsModule, AtomicRedisModule.forFeature([takeTokenScript])],
  controllers: [StatementsController],
  providers: [StatementsService],
})
export class StatementsModule {}
