import { BadRequestException, Body, Controller, Get, Headers, HttpCode, Param, Post } from '@nestjs/common';
import { Account, WithdrawDto } from '../accounts/account.dto.js';
import { CheckoutDto, Receipt } from '../checkout/checkout.dto.js';
import { CatalogSize, ImportCatalogDto } from '../catalog/catalog.dto.js';
import { ApiProblem } from '../http/api-problem.decorator.js';
import { IdPipe } from '../http/id.pipe.js';
import { Reservation, ReserveDto } from '../inventory/inventory.dto.js';
import { CreateOrderDto, Order } from '../orders/order.dto.js';
import { Views } from '../products/product.dto.js';
import { SalesStatement } from '../sales/sales.dto.js';
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

  @Post('products/:sku/views')
  async countView(@Param('sku', IdPipe) sku: string): Promise<Views> {
    return await this.naive.countView(sku);
  }

  @Post('catalog/imports')
  @HttpCode(204)
  @ApiProblem(400)
  async importCatalog(@Body() dto: ImportCatalogDto): Promise<void> {
    await this.naive.importCatalog(dto);
  }

  @Get('catalog')
  async countCatalog(): Promise<CatalogSize> {
    return await this.naive.countCatalog();
  }

  @Post('checkout')
  @ApiProblem(400)
  @ApiProblem(409, 'There is too little, or the card was declined')
  async pay(@Headers('idempotency-key') key: string | undefined, @Body() dto: CheckoutDto): Promise<Receipt> {
    if (!key) throw new BadRequestException('The request needs an Idempotency-Key header');
    return await this.naive.pay(key, dto);
  }

  @Post('sales/:sku/statements')
  @ApiProblem(503, 'The statements are locked')
  async publishSales(@Param('sku', IdPipe) sku: string): Promise<SalesStatement> {
    return await this.naive.publishSales(sku);
  }
}
