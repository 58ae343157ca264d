import { Body, Controller, Delete, Get, HttpCode, Param, Post, Put } from '@nestjs/common';
import type { Hold } from 'nestjs-atomic-redis';
import { IdPipe } from '../http/id.pipe.js';
import { CartDto, HoldDto, ReserveDto, SetStockDto } from './inventory.dto.js';
import { InventoryService, type Inventory, type Reservation } from './inventory.service.js';

@Controller('inventory')
export class InventoryController {
  constructor(private readonly inventory: InventoryService) {}

  @Post('carts')
  async reserveCart(@Body() dto: CartDto): Promise<{ left: Record<string, number> }> {
    return await this.inventory.reserveCart(dto.lines);
  }

  /** The id of a hold is who may decide on it, so it is in no key and needs no pipe. */
  @Put('holds/:id/purchase')
  @HttpCode(204)
  async buy(@Param('id') id: string): Promise<void> {
    await this.inventory.buy(id);
  }

  @Delete('holds/:id')
  @HttpCode(204)
  async release(@Param('id') id: string): Promise<void> {
    await this.inventory.release(id);
  }

  @Put(':sku')
  async setStock(@Param('sku', IdPipe) sku: string, @Body() dto: SetStockDto): Promise<Inventory> {
    return await this.inventory.setStock(sku, dto.stock);
  }

  @Get(':sku')
  async find(@Param('sku', IdPipe) sku: string): Promise<Inventory> {
    return await this.inventory.find(sku);
  }

  @Post(':sku/reservations')
  async reserve(@Param('sku', IdPipe) sku: string, @Body() dto: ReserveDto): Promise<Reservation> {
    return await this.inventory.reserve(sku, dto);
  }

  @Post(':sku/holds')
  async hold(@Param('sku', IdPipe) sku: string, @Body() dto: HoldDto): Promise<Hold> {
    return await this.inventory.hold(sku, dto);
  }
}
