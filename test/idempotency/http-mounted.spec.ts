import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Controller, Next, Post, Req, Res, type INestApplication } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import express, { type NextFunction, type Request, type Response } from 'express';
import { AtomicRedisModule, Idempotent } from 'nestjs-atomic-redis';
import { useRedis } from '../support/redis.js';
import { send } from './http-app.js';

let runs = 0;

/** Answers what reaches it, by the methods that Express gives a response. */
const answering = (name: string): express.Express =>
  express().use(
    (_request: Request, response: Response) => void response.status(201).json({ by: name, runs }),
  );

@Controller()
class MountedController {
  @Post('out')
  @Idempotent()
  out(@Next() next: NextFunction): void {
    runs++;
    // Past Nest's own answer to what it has no route for.
    next('router');
  }

  @Post('in')
  @Idempotent()
  in(@Req() request: Request, @Res() response: Response): void {
    runs++;
    answering('inner')(request, response);
  }
}

describe('an idempotent route of an Express application in an Express application', () => {
  const redis = useRedis();
  let app: INestApplication;
  let server: Server;
  let port: number;

  beforeEach(async () => {
    runs = 0;
    const module = await Test.createTestingModule({
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' })],
      controllers: [MountedController],
    }).compile();
    app = module.createNestApplication({ logger: false });
    await app.init();
    const nest = app.getHttpAdapter().getInstance() as express.Express;
    const outer = express().use('/nest', nest).use(answering('outer'));
    server = createServer(outer as never);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ({ port } = server.address() as AddressInfo);
  });

  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await app.close();
  });

  it.each([
    ['/nest/out', 'outer'],
    ['/nest/in', 'inner'],
  ])(
    '[ID-2] records the responses of the inner application, which brings its own response methods: %s',
    async (path, by) => {
      const first = await send({ app, port }, path);
      expect(first).toEqual({ status: 201, body: JSON.stringify({ by, runs: 1 }), replayed: false });
      expect(await send({ app, port }, path)).toEqual({ ...first, replayed: true });
      expect(runs).toBe(1);
    },
  );
});
