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
import { ByHandService } from './by-hand.service.js';

/** The usual mends, under load and faults: see ByHandService. */
@Controller('by-hand')
export class ByHandController {
  constructor(private readonly byHand: ByHandService) {}

  @Post('orders')
  @ApiProblem(409, 'The order is being made')
  @ApiProblem(400)
  async createOrder(
    @Headers('idempotency-key') key: string | undefined,
    @Body() dto: CreateOrderDto,
  ): Promise<Order> {
    if (!key) throw new BadRequestException('The request needs an Idempotency-Key header');
    return await this.byHand.createOrder(key, dto);
  }

  @Post('accounts/:id/withdrawals')
  @ApiProblem(400)
  @ApiProblem(404)
  @ApiProblem(409, 'The balance is too low')
  @ApiProblem(503, 'The account is locked')
  async withdraw(@Param('id', IdPipe) id: string, @Body() dto: WithdrawDto): Promise<Account> {
    return await this.byHand.withdraw(id, dto.amount);
  }

  @Post('inventory/:sku/reservations')
  @ApiProblem(400)
  @ApiProblem(409, 'There is too little')
  async reserve(@Param('sku', IdPipe) sku: string, @Body() dto: ReserveDto): Promise<Reservation> {
    return await this.byHand.reserve(sku, dto);
  }

  @Post('products/:sku/views')
  async countView(@Param('sku', IdPipe) sku: string): Promise<Views> {
    return await this.byHand.countView(sku);
  }

  @Post('catalog/imports')
  @HttpCode(204)
  @ApiProblem(400)
  async importCatalog(@Body() dto: ImportCatalogDto): Promise<void> {
    await this.byHand.importCatalog(dto);
  }

  @Get('catalog')
  async countCatalog(): Promise<CatalogSize> {
    return await this.byHand.countCatalog();
  }

  @Post('checkout')
  @ApiProblem(400)
  @ApiProblem(409, 'The payment is being made, there is too little, or the card was declined')
  async pay(@Headers('idempotency-key') key: string | undefined, @Body() dto: CheckoutDto): Promise<Receipt> {
    if (!key) throw new BadRequestException('The request needs an Idempotency-Key header');
    return await this.byHand.pay(key, dto);
  }

  @Post('sales/:sku/statements')
  @ApiProblem(503, 'The statements are locked')
  async publishSales(@Param('sku', IdPipe) sku: string): Promise<SalesStatement> {
    return await this.byHand.publishSales(sku);
  }
}
