import { Body, Controller, Get, Param, Post, Put } from '@nestjs/common';
import { IdPipe } from '../http/id.pipe.js';
import { ReserveDto, SetStockDto } from './inventory.dto.js';
import { InventoryService, type Inventory, type Reservation } from './inventory.service.js';

@Controller('inventory')
export class InventoryController {
  constructor(private readonly inventory: InventoryService) {}

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
}
