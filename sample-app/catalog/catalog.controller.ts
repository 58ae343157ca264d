import { Body, Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import { ApiAtomicProblems } from 'nestjs-atomic-redis/openapi';
import { ApiProblem } from '../http/api-problem.decorator.js';
import { IdPipe } from '../http/id.pipe.js';
import { CatalogImport, CatalogRollback, CatalogSize, ImportCatalogDto, Product } from './catalog.dto.js';
import { CatalogService } from './catalog.service.js';

@Controller('catalog')
export class CatalogController {
  constructor(private readonly catalog: CatalogService) {}

  @Post('imports')
  @ApiAtomicProblems()
  @ApiProblem(400)
  async import(@Body() dto: ImportCatalogDto): Promise<CatalogImport> {
    return await this.catalog.import(dto);
  }

  @Get('imports/latest')
  @ApiProblem(404)
  latestImport(): CatalogImport {
    return this.catalog.latestImport();
  }

  @Post('rollback')
  @ApiAtomicProblems()
  @HttpCode(200)
  async rollback(): Promise<CatalogRollback> {
    return await this.catalog.rollback();
  }

  @Get()
  async count(): Promise<CatalogSize> {
    return await this.catalog.count();
  }

  @Get(':sku')
  @ApiProblem(404)
  async find(@Param('sku', IdPipe) sku: string): Promise<Product> {
    return await this.catalog.find(sku);
  }
}
