import { Global, Inject, Module, type DynamicModule, type OnApplicationShutdown } from '@nestjs/common';
import { Redis } from 'ioredis';
import { FakeProvider } from './fake-provider.js';
import { PAYMENT_PROVIDER_URL, PaymentProvider } from './payment-provider.js';

const FAKE = Symbol('the fake provider of this process');

/** The payment provider at a URL, or else a fake one that lives as long as the shop. */
@Global()
@Module({})
export class PaymentProviderModule implements OnApplicationShutdown {
  constructor(@Inject(FAKE) private readonly fake: FakeProvider | null) {}

  static at(url: string | undefined): DynamicModule {
    return {
      module: PaymentProviderModule,
      providers: [
        {
          provide: FAKE,
          inject: [Redis],
          useFactory: async (redis: Redis) => (url ? null : await FakeProvider.start(redis)),
        },
        {
          provide: PAYMENT_PROVIDER_URL,
          inject: [FAKE],
          useFactory: (fake: FakeProvider | null) => url || fake!.url,
        },
        PaymentProvider,
      ],
      exports: [PaymentProvider],
    };
  }

  onApplicationShutdown(): void {
    this.fake?.stop();
  }
}
