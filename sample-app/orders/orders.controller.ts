import { Body, Controller, Get, Param, ParseIntPipe, Post } from '@nestjs/common';
import { Idempotent } from 'nestjs-atomic-redis';
import { CreateOrderDto } from './create-order.dto.js';
import { OrdersService, type Order } from './orders.service.js';

@Controller('orders')
export class OrdersController {
  constructor(private readonly orders: OrdersService) {}

  /** However often and wherever a request with the same Idempotency-Key arrives: one order, and the first answer for all. */
  @Post()
  @Idempotent({ leaseMs: 3_000 }) // after a process was killed, its keys are free again this soon
  async create(@Body() dto: CreateOrderDto): Promise<Order> {
    return await this.orders.create(dto);
  }

  @Get()
  async count(): Promise<{ count: number }> {
    return { count: await this.orders.count() };
  }

  @Get(':id')
  async find(@Param('id', ParseIntPipe) id: number): Promise<Order> {
    return await this.orders.find(id);
  }
}
