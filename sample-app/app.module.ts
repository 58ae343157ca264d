import { Module, ValidationPipe, type DynamicModule } from '@nestjs/common';
import { APP_FILTER, APP_PIPE } from '@nestjs/core';
import { AtomicRedisModule } from 'nestjs-atomic-redis';
import { AccountsModule } from './accounts/accounts.module.js';
import { AppController } from './app.controller.js';
import { ByHandModule } from './by-hand/by-hand.module.js';
import { CheckoutModule } from './checkout/checkout.module.js';
import { CatalogModule } from './catalog/catalog.module.js';
import { DemoData } from './demo-data.js';
import { HealthModule } from './health/health.module.js';
import { ProblemDetailsFilter } from './http/problem-details.filter.js';
import { InventoryModule } from './inventory/inventory.module.js';
import { LabModule } from './lab/lab.module.js';
import { NaiveModule } from './naive/naive.module.js';
import { OrdersModule } from './orders/orders.module.js';
import { PaymentProviderModule } from './payment-provider/payment-provider.module.js';
import { ProductsModule } from './products/products.module.js';
import { NAMESPACE } from './redis/keys.js';
import { ShopRedisModule } from './redis/shop-redis.module.js';
import { SalesModule } from './sales/sales.module.js';
import { StatementsModule } from './statements/statements.module.js';
import { VouchersModule } from './vouchers/vouchers.module.js';

interface ShopOptions {
  lab?: boolean;
  paymentProviderUrl?: string | undefined;
}

@Module({
  imports: [
    OrdersModule,
    CheckoutModule,
    VouchersModule,
    SalesModule,
    AccountsModule,
    StatementsModule,
    InventoryModule,
    ProductsModule,
    CatalogModule,
    NaiveModule,
    ByHandModule,
    HealthModule,
  ],
  controllers: [AppController],
  providers: [
    DemoData,
    { provide: APP_FILTER, useClass: ProblemDetailsFilter },
    { provide: APP_PIPE, useValue: new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true }) },
  ],
})
export class AppModule {
  /**
   * @param options.lab whether the race lab is there, which starts processes and breaks their
   * connections to that Redis
   * @param options.paymentProviderUrl of a payment provider, in place of the shop's own fake one
   */
  static withRedis(url: string, { lab = false, paymentProviderUrl }: ShopOptions = {}): DynamicModule {
    return {
      module: AppModule,
      imports: [
        AtomicRedisModule.forRoot({ connection: url, namespace: NAMESPACE }),
        ShopRedisModule.forRoot(url),
        PaymentProviderModule.at(paymentProviderUrl),
        ...(lab ? [LabModule.on(url)] : []),
      ],
    };
  }
}
