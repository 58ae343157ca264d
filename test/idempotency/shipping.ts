import { Module, type INestApplicationContext, type ModuleMetadata, type Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { AtomicRedisModule } from 'nestjs-atomic-redis';

/** Notes the messages that handlers get, and plays the end that the test sets for the next one. */
export class Handling {
  readonly handled: string[] = [];
  /** Handlers wait for it. */
  running: Promise<void> | undefined;
  /** Gives the result of the next handler. */
  next: (() => unknown) | undefined;

  reset(): void {
    this.handled.length = 0;
    this.running = this.next = undefined;
  }

  async handle(id: string): Promise<unknown> {
    this.handled.push(id);
    await this.running;
    const act = this.next;
    this.next = undefined;
    return act?.();
  }
}

/** Starts an application with the module and one provider, whose log stays silent. */
export async function startShipping(
  connection: string,
  shipping: Type,
  imports: NonNullable<ModuleMetadata['imports']> = [],
): Promise<INestApplicationContext> {
  @Module({
    imports: [AtomicRedisModule.forRoot({ connection, namespace: 'atomic:' }), ...imports],
    providers: [shipping],
  })
  class AppModule {}
  const module = await Test.createTestingModule({ imports: [AppModule] }).compile();
  module.useLogger(false);
  return await module.init();
}
