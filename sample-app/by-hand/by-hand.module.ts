import { Module } from '@nestjs/common';
import { OrdersModule } from '../orders/orders.module.js';
import { ByHandController } from './by-hand.controller.js';
import { ByHandService } from './by-hand.service.js';

@Module({ imports: [OrdersModule], controllers: [ByHandController], providers: [ByHandService] })
export class ByHandModule {}
