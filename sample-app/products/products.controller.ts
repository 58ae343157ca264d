import { Body, Controller, Get, Headers, Param, Post, Put, Query, Res } from '@nestjs/common';
import type { Response } from 'express';
import { IdPipe } from '../http/id.pipe.js';
import { HistoryQueryDto, SetDescriptionDto, SetPriceDto } from './product.dto.js';
import { PreconditionRequiredException } from './products.errors.js';
import {
  ProductsService,
  type Description,
  type Price,
  type PriceHistory,
  type Views,
} from './products.service.js';

@Controller('products/:sku')
export class ProductsController {
  constructor(private readonly products: ProductsService) {}

  @Put('price')
  async setPrice(@Param('sku', IdPipe) sku: string, @Body() dto: SetPriceDto): Promise<Price> {
    return await this.products.setPrice(sku, dto.cents, dto.changedBy);
  }

  @Get('price/history')
  async priceHistory(
    @Param('sku', IdPipe) sku: string,
    @Query() { before }: HistoryQueryDto,
  ): Promise<PriceHistory> {
    return await this.products.priceHistory(sku, before);
  }

  @Get('description')
  async findDescription(
    @Param('sku', IdPipe) sku: string,
    @Res({ passthrough: true }) response: Response,
  ): Promise<{ text: string }> {
    return answer(response, await this.products.findDescription(sku));
  }

  /** Only the text that the client has seen is replaced: https://www.rfc-editor.org/rfc/rfc9110#name-if-match */
  @Put('description')
  async setDescription(
    @Param('sku', IdPipe) sku: string,
    @Body() dto: SetDescriptionDto,
    @Res({ passthrough: true }) response: Response,
    @Headers('if-match') ifMatch?: string,
    @Headers('if-none-match') ifNoneMatch?: string,
  ): Promise<{ text: string }> {
    if (ifMatch === undefined && ifNoneMatch !== '*') throw new PreconditionRequiredException();
    return answer(response, await this.products.setDescription(sku, ifMatch ?? null, dto.text));
  }

  @Post('views')
  async countView(@Param('sku', IdPipe) sku: string): Promise<Views> {
    return await this.products.countView(sku);
  }
}

function answer(response: Response, { text, etag }: Description): { text: string } {
  response.setHeader('ETag', etag);
  return { text };
}
