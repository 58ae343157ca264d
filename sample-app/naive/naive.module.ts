import { Module } from '@nestjs/common';
import { OrdersModule } from '../orders/orders.module.js';
import { NaiveController } from './naive.controller.js';
import { NaiveService } from './naive.service.js';

@Module({ imports: [OrdersModule], controllers: [NaiveController], providers: [NaiveService] })
export class NaiveModule {}
