import { BadRequestException, Body, Controller, Get, Headers, Param, Post } from '@nestjs/common';
import { WithdrawDto } from '../accounts/account.dto.js';
import type { Account } from '../accounts/accounts.service.js';
import { ImportCatalogDto } from '../catalog/import-catalog.dto.js';
import { IdPipe } from '../http/id.pipe.js';
import { ReserveDto } from '../inventory/inventory.dto.js';
import type { Reservation } from '../inventory/inventory.service.js';
import { CreateOrderDto } from '../orders/create-order.dto.js';
import type { Order } from '../orders/orders.service.js';
import type { Views } from '../products/products.service.js';
import { NaiveService } from './naive.service.js';

/** The wrong way, under load: see NaiveService. */
@Controller('naive')
export class NaiveController {
  constructor(private readonly naive: NaiveService) {}

  @Post('orders')
  async createOrder(
    @Headers('idempotency-key') key: string | undefined,
    @Body() dto: CreateOrderDto,
  ): Promise<Order> {
    if (!key) throw new BadRequestException('The request needs an Idempotency-Key header');
    return await this.naive.createOrder(key, dto);
  }

  @Post('accounts/:id/withdrawals')
  async withdraw(@Param('id', IdPipe) id: string, @Body() dto: WithdrawDto): Promise<Account> {
    return await this.naive.withdraw(id, dto.amount);
  }

  @Post('inventory/:sku/reservations')
  async reserve(@Param('sku', IdPipe) sku: string, @Body() dto: ReserveDto): Promise<Reservation> {
    return await this.naive.reserve(sku, dto);
  }

  @Post('products/:sku/views')
  async countView(@Param('sku', IdPipe) sku: string): Promise<Views> {
    return await this.naive.countView(sku);
  }

  @Post('catalog/imports')
  async importCatalog(@Body() dto: ImportCatalogDto): Promise<void> {
    await this.naive.importCatalog(dto);
  }

  @Get('catalog')
  async countCatalog(): Promise<{ products: number }> {
    return await this.naive.countCatalog();
  }
}
