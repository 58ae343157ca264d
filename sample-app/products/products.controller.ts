import { Body, Controller, Get, Headers, Param, Post, Put, Query, Res } from '@nestjs/common';
import type { Response } from 'express';
import { ApiAtomicProblems } from 'nestjs-atomic-redis/openapi';
import { ApiProblem } from '../http/api-problem.decorator.js';
import { IdPipe } from '../http/id.pipe.js';
import {
  Description,
  HistoryQueryDto,
  Price,
  PriceHistory,
  SetDescriptionDto,
  SetPriceDto,
  Views,
} from './product.dto.js';
import { PreconditionRequiredException } from './products.errors.js';
import { ProductsService, type TaggedDescription } from './products.service.js';

@Controller('products/:sku')
export class ProductsController {
  constructor(private readonly products: ProductsService) {}

  @Put('price')
  @ApiAtomicProblems()
  @ApiProblem(400)
  async setPrice(@Param('sku', IdPipe) sku: string, @Body() dto: SetPriceDto): Promise<Price> {
    return await this.products.setPrice(sku, dto.cents, dto.changedBy);
  }

  @Get('price/history')
  @ApiAtomicProblems()
  @ApiProblem(400)
  async priceHistory(
    @Param('sku', IdPipe) sku: string,
    @Query() { before }: HistoryQueryDto,
  ): Promise<PriceHistory> {
    return await this.products.priceHistory(sku, before);
  }

  @Get('description')
  @ApiProblem(404)
  async findDescription(
    @Param('sku', IdPipe) sku: string,
    @Res({ passthrough: true }) response: Response,
  ): Promise<Description> {
    return answer(response, await this.products.findDescription(sku));
  }

  /**
   * Only the text that the client has seen is replaced:
   * https://www.rfc-editor.org/rfc/rfc9110#name-if-match
   */
  @Put('description')
  @ApiAtomicProblems()
  @ApiProblem(400)
  @ApiProblem(412, 'Somebody else has changed the description')
  @ApiProblem(428, 'Neither If-Match nor If-None-Match was sent')
  async setDescription(
    @Param('sku', IdPipe) sku: string,
    @Body() dto: SetDescriptionDto,
    @Res({ passthrough: true }) response: Response,
    @Headers('if-match') ifMatch?: string,
    @Headers('if-none-match') ifNoneMatch?: string,
  ): Promise<Description> {
    if (ifMatch === undefined && ifNoneMatch !== '*') throw new PreconditionRequiredException();
    return answer(response, await this.products.setDescription(sku, ifMatch ?? null, dto.text));
  }

  @Post('views')
  @ApiAtomicProblems()
  async countView(@Param('sku', IdPipe) sku: string): Promise<Views> {
    return await this.products.countView(sku);
  }
}

function answer(response: Response, { text, etag }: TaggedDescription): Description {
  response.setHeader('ETag', etag);
  return { text };
}
