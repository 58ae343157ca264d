import { BadRequestException, Body, Controller, Headers, Param, Post } from '@nestjs/common';
import { Account, WithdrawDto } from '../accounts/account.dto.js';
import { ApiProblem } from '../http/api-problem.decorator.js';
import { IdPipe } from '../http/id.pipe.js';
import { Reservation, ReserveDto } from '../inventory/inventory.dto.js';
import { CreateOrderDto, Order } from '../orders/order.dto.js';
import { NaiveService } from './naive.service.js';

/** The wrong way, under load: see NaiveService. */
@Controller('naive')
export class NaiveController {
  constructor(private readonly naive: NaiveService) {}

  @Post('orders')
  @ApiProblem(400)
  async createOrder(
    @Headers('idempotency-key') key: string | undefined,
    @Body() dto: CreateOrderDto,
  ): Promise<Order> {
    if (!key) throw new BadRequestException('The request needs an Idempotency-Key header');
    return await this.naive.createOrder(key, dto);
  }

  @Post('accounts/:id/withdrawals')
  @ApiProblem(400)
  @ApiProblem(404)
  @ApiProblem(409, 'The balance is too low')
  async withdraw(@Param('id', IdPipe) id: string, @Body() dto: WithdrawDto): Promise<Account> {
    return await this.naive.withdraw(id, dto.amount);
  }

  @Post('inventory/:sku/reservations')
  @ApiProblem(400)
  @ApiProblem(409, 'There is too little')
  async reserve(@Param('sku', IdPipe) sku: string, @Body() dto: ReserveDto): Promise<Reservation> {
    return await this.naive.reserve(sku, dto);
  }
}
