import type { INestApplication } from '@nestjs/common';
import { result } from './idempotent-scripts.js';

export interface OrderDto {
  sku: string;
  quantity: number;
}

let created = 0;

/** The work of the endpoint; each order has a number of its own, so that a replay can be told. */
export const create = (order: OrderDto): object => ({ ...result, ...order, number: ++created });

/** Tells the benchmark the port, and its CPU time when asked; ends when told to. */
export async function serve(
  app: Pick<INestApplication, 'listen' | 'close' | 'getHttpServer'>,
  closed: () => void = () => {},
): Promise<void> {
  await app.listen(0, '127.0.0.1');
  const { port } = app.getHttpServer().address() as { port: number };
  process.on('message', (message) => {
    if (message === 'cpu') process.send!(process.cpuUsage());
    else
      void app.close().then(() => {
        closed();
        process.exit(0);
      });
  });
  process.send!({ port });
}
