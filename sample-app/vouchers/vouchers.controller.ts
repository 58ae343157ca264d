import { Body, Controller, HttpCode, Param, Post, Put } from '@nestjs/common';
import { RateLimit } from 'nestjs-atomic-redis';
import { ApiAtomicProblems } from 'nestjs-atomic-redis/openapi';
import { ApiProblem } from '../http/api-problem.decorator.js';
import { IdPipe } from '../http/id.pipe.js';
import { IssueVoucherDto, RedeemVoucherDto, Voucher } from './voucher.dto.js';
import { VouchersService } from './vouchers.service.js';

@Controller('vouchers')
export class VouchersController {
  constructor(private readonly vouchers: VouchersService) {}

  @Put(':code')
  @ApiProblem(400)
  async issue(@Param('code', IdPipe) code: string, @Body() dto: IssueVoucherDto): Promise<Voucher> {
    return await this.vouchers.issue(code, dto.cents);
  }

  /**
   * Limits code guessing to five attempts in a minute and twenty in an hour, over all processes. A
   * refused attempt costs nothing of either limit.
   */
  @Post('redemptions')
  @HttpCode(200)
  @RateLimit({
    limits: [
      { limit: 5, perMs: 60_000, algorithm: 'sliding', policy: 'minute' },
      { limit: 20, perMs: 3_600_000, algorithm: 'sliding', policy: 'hour' },
    ],
  })
  @ApiAtomicProblems('LIMIT_EXCEEDED')
  @ApiProblem(400)
  @ApiProblem(404)
  async redeem(@Body() dto: RedeemVoucherDto): Promise<Voucher> {
    return await this.vouchers.redeem(dto.code);
  }
}
