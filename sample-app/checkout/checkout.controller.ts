import { Body, Controller, Get, Param, Post } from '@nestjs/common';
import { Idempotent, IdempotentRun, InjectRun } from 'nestjs-atomic-redis';
import { ApiIdempotent } from 'nestjs-atomic-redis/openapi';
import { ApiProblem } from '../http/api-problem.decorator.js';
import { IdPipe } from '../http/id.pipe.js';
import { PaymentProvider } from '../payment-provider/payment-provider.js';
import { chargeOf } from './charge-of.js';
import { CheckoutDto, PaidOrder, Receipt } from './checkout.dto.js';
import { CheckoutService } from './checkout.service.js';

@Controller('checkout')
export class CheckoutController {
  constructor(
    private readonly checkout: CheckoutService,
    private readonly provider: PaymentProvider,
    @InjectRun() private readonly run: IdempotentRun,
  ) {}

  /**
   * Three steps. When a process dies between two of them, the next request with the key continues
   * there: it reserves once, charges once, and sends one mail.
   */
  @Post()
  @ApiIdempotent()
  @ApiProblem(400)
  @ApiProblem(409, 'The cart has a checkout, or there is too little of the article')
  @Idempotent({ leaseMs: 2_000 }) // after a process was killed, its keys are free again this soon
  async pay(@Body() dto: CheckoutDto): Promise<Receipt> {
    await this.run.step('reserve', () => this.checkout.reserve(dto));
    // The key is the same in each attempt. Asked again, the provider answers with the first charge.
    const charge = await this.run.step('charge', (step) => this.provider.charge(chargeOf(dto), step.key));
    return charge === null ? await this.checkout.cancel(dto) : await this.checkout.confirm(dto, charge);
  }

  @Get(':sku/:cart')
  @ApiProblem(404)
  async find(@Param('sku', IdPipe) sku: string, @Param('cart', IdPipe) cart: string): Promise<PaidOrder> {
    return await this.checkout.find(sku, cart);
  }
}
