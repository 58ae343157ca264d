import { Redis } from 'ioredis';
import { startRedisServer } from '../../lib/testing/index.js';
import { worker, type WorkerContext } from './worker.js';

export interface OwnedServer {
  pid: number;
  port: number;
  directory: string;
}

type Context = WorkerContext<SupportJob>;

const startOwn = async (): Promise<OwnedServer> => {
  const { pid, port, directory } = await startRedisServer();
  return { pid, port, directory };
};

const tasks = {
  add: async ({ data, index }: Context) => {
    const client = new Redis(data.url ?? '');
    for (let i = 0; i < 50; i++) await client.incr('n');
    client.disconnect();
    return { index, pid: process.pid };
  },
  echo: async ({ next, send }: Context) => {
    for (;;) send({ echo: await next() });
  },
  throw: () => {
    throw new RangeError('thrown on purpose');
  },
  crash: () => {
    console.error('last words');
    process.exit(7);
  },
  hang: ({ next }: Context) => next(),
  ownServer: async ({ next, send }: Context) => {
    send(await startOwn());
    await next();
  },
  leaveServer: startOwn,
};

export interface SupportJob {
  task: keyof typeof tasks;
  url?: string;
}

worker<SupportJob>((context) => tasks[context.data.task](context));
