import { Body, Controller, Get, Param, ParseIntPipe, Post } from '@nestjs/common';
import { Idempotent } from 'nestjs-atomic-redis';
import { ApiIdempotent } from 'nestjs-atomic-redis/openapi';
import { ApiProblem } from '../http/api-problem.decorator.js';
import { CreateOrderDto, Order, OrderCount } from './order.dto.js';
import { OrdersService } from './orders.service.js';

@Controller('orders')
export class OrdersController {
  constructor(private readonly orders: OrdersService) {}

  /**
   * Requests with the same Idempotency-Key make one order and all get the first answer, at any
   * process and any number of times.
   */
  @Post()
  @ApiIdempotent()
  @ApiProblem(400)
  @Idempotent({ leaseMs: 3_000 }) // after a process was killed, its keys are free again this soon
  async create(@Body() dto: CreateOrderDto): Promise<Order> {
    return await this.orders.create(dto);
  }

  @Get()
  async count(): Promise<OrderCount> {
    return { count: await this.orders.count() };
  }

  @Get(':id')
  @ApiProblem(404)
  async find(@Param('id', ParseIntPipe) id: number): Promise<Order> {
    return await this.orders.find(id);
  }
}
