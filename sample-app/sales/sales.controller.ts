import { Controller, Get, Param, Post } from '@nestjs/common';
import { ApiAtomicProblems } from 'nestjs-atomic-redis/openapi';
import { ApiProblem } from '../http/api-problem.decorator.js';
import { IdPipe } from '../http/id.pipe.js';
import { SalesStatement, SalesStatements } from './sales.dto.js';
import { SalesService } from './sales.service.js';

@Controller('sales/:sku/statements')
export class SalesController {
  constructor(private readonly sales: SalesService) {}

  /** For the scheduler of each process, at night. */
  @Post()
  @ApiAtomicProblems('PERMIT_UNAVAILABLE')
  @ApiProblem(400)
  async publish(@Param('sku', IdPipe) sku: string): Promise<SalesStatement> {
    return await this.sales.publish(sku);
  }

  @Get()
  async find(@Param('sku', IdPipe) sku: string): Promise<SalesStatements> {
    return { statements: await this.sales.find(sku) };
  }
}
