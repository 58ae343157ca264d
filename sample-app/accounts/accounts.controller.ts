import { Body, Controller, Get, Param, Post, Put } from '@nestjs/common';
import { IdPipe } from '../http/id.pipe.js';
import { SetBalanceDto, TransferDto, WithdrawDto } from './account.dto.js';
import { AccountsService, type Account } from './accounts.service.js';

@Controller('accounts')
export class AccountsController {
  constructor(private readonly accounts: AccountsService) {}

  @Put(':id')
  async setBalance(@Param('id', IdPipe) id: string, @Body() dto: SetBalanceDto): Promise<Account> {
    return await this.accounts.setBalance(id, dto.balance);
  }

  @Get(':id')
  async find(@Param('id', IdPipe) id: string): Promise<Account> {
    return await this.accounts.find(id);
  }

  @Post(':id/withdrawals')
  async withdraw(@Param('id', IdPipe) id: string, @Body() dto: WithdrawDto): Promise<Account> {
    return await this.accounts.withdraw(id, dto.amount);
  }

  @Post(':id/transfers')
  async transfer(
    @Param('id', IdPipe) id: string,
    @Body() dto: TransferDto,
  ): Promise<{ from: Account; to: Account }> {
    return await this.accounts.transfer(id, dto.to, dto.amount);
  }
}
