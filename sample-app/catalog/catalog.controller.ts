import { Body, Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import { IdPipe } from '../http/id.pipe.js';
import { CatalogService, type CatalogImport } from './catalog.service.js';
import { ImportCatalogDto } from './import-catalog.dto.js';
import type { Product } from './supplier.js';

@Controller('catalog')
export class CatalogController {
  constructor(private readonly catalog: CatalogService) {}

  @Post('imports')
  async import(@Body() dto: ImportCatalogDto): Promise<CatalogImport> {
    return await this.catalog.import(dto);
  }

  @Get('imports/latest')
  latestImport(): CatalogImport {
    return this.catalog.latestImport();
  }

  @Post('rollback')
  @HttpCode(200)
  async rollback(): Promise<{ rolledBack: boolean }> {
    return await this.catalog.rollback();
  }

  @Get()
  async count(): Promise<{ products: number }> {
    return await this.catalog.count();
  }

  @Get(':sku')
  async find(@Param('sku', IdPipe) sku: string): Promise<Product> {
    return await this.catalog.find(sku);
  }
}
