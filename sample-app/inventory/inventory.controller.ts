import { Body, Controller, Delete, Get, HttpCode, Param, Post, Put } from '@nestjs/common';
import { ApiAtomicProblems } from 'nestjs-atomic-redis/openapi';
import { ApiProblem } from '../http/api-problem.decorator.js';
import { IdPipe } from '../http/id.pipe.js';
import {
  CartDto,
  HeldStock,
  HoldDto,
  Inventory,
  Reservation,
  ReservedCart,
  ReserveDto,
  SetStockDto,
} from './inventory.dto.js';
import { InventoryService } from './inventory.service.js';

@ApiAtomicProblems()
@Controller('inventory')
export class InventoryController {
  constructor(private readonly inventory: InventoryService) {}

  @Post('carts')
  @ApiProblem(400)
  @ApiProblem(409, 'Too little of an article; nothing was reserved')
  async reserveCart(@Body() dto: CartDto): Promise<ReservedCart> {
    return await this.inventory.reserveCart(dto.lines);
  }

  /** The id of a hold is who may decide on it, so it is in no key and needs no pipe. */
  @Put('holds/:id/purchase')
  @HttpCode(204)
  @ApiProblem(409, 'The hold has expired, or was bought or released before')
  async buy(@Param('id') id: string): Promise<void> {
    await this.inventory.buy(id);
  }

  @Delete('holds/:id')
  @HttpCode(204)
  @ApiProblem(409, 'The hold has expired, or was bought or released before')
  async release(@Param('id') id: string): Promise<void> {
    await this.inventory.release(id);
  }

  @Put(':sku')
  @ApiProblem(400)
  async setStock(@Param('sku', IdPipe) sku: string, @Body() dto: SetStockDto): Promise<Inventory> {
    return await this.inventory.setStock(sku, dto.stock);
  }

  @Get(':sku')
  async find(@Param('sku', IdPipe) sku: string): Promise<Inventory> {
    return await this.inventory.find(sku);
  }

  @Post(':sku/reservations')
  @ApiAtomicProblems('COUNTER_LIMIT')
  @ApiProblem(400)
  async reserve(@Param('sku', IdPipe) sku: string, @Body() dto: ReserveDto): Promise<Reservation> {
    return await this.inventory.reserve(sku, dto);
  }

  @Post(':sku/holds')
  @ApiAtomicProblems('COUNTER_LIMIT')
  @ApiProblem(400)
  async hold(@Param('sku', IdPipe) sku: string, @Body() dto: HoldDto): Promise<HeldStock> {
    return await this.inventory.hold(sku, dto);
  }
}
