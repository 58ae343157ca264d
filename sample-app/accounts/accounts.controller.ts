import { Body, Controller, Get, Param, Post, Put } from '@nestjs/common';
import { ApiAtomicProblems } from 'nestjs-atomic-redis/openapi';
import { ApiProblem } from '../http/api-problem.decorator.js';
import { IdPipe } from '../http/id.pipe.js';
import { Account, SetBalanceDto, TransferDto, TransferredAccounts, WithdrawDto } from './account.dto.js';
import { AccountsService } from './accounts.service.js';

@Controller('accounts')
export class AccountsController {
  constructor(private readonly accounts: AccountsService) {}

  @Put(':id')
  @ApiProblem(400)
  async setBalance(@Param('id', IdPipe) id: string, @Body() dto: SetBalanceDto): Promise<Account> {
    return await this.accounts.setBalance(id, dto.balance);
  }

  @Get(':id')
  @ApiProblem(404)
  async find(@Param('id', IdPipe) id: string): Promise<Account> {
    return await this.accounts.find(id);
  }

  @Post(':id/withdrawals')
  @ApiAtomicProblems('TRANSACTION_CONFLICT')
  @ApiProblem(400)
  @ApiProblem(404)
  @ApiProblem(409, 'The balance is too low')
  async withdraw(@Param('id', IdPipe) id: string, @Body() dto: WithdrawDto): Promise<Account> {
    return await this.accounts.withdraw(id, dto.amount);
  }

  @Post(':id/transfers')
  @ApiAtomicProblems('INSUFFICIENT_FUNDS')
  @ApiProblem(400)
  async transfer(@Param('id', IdPipe) id: string, @Body() dto: TransferDto): Promise<TransferredAccounts> {
    return await this.accounts.transfer(id, dto.to, dto.amount);
  }
}
