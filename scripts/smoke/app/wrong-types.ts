import { AtomicCounter, Idempotent, OptimisticRetry } from 'nestjs-atomic-redis';

/** Only compiled: each callback takes a number where its method takes a string. */
export class WrongTypes {
  // @ts-expect-error
  @OptimisticRetry({ watch: (id: number) => `account:{${id}}` })
  async deposit(id: string): Promise<string> {
    return id;
  }

  // @ts-expect-error
  @Idempotent({ key: (id: number) => `order-${id}` })
  async ship(id: string): Promise<string> {
    return id;
  }

  // @ts-expect-error
  @AtomicCounter({ key: (sku: number) => `inventory:{${sku}}` })
  async reserve(sku: string): Promise<string> {
    return sku;
  }
}
