import { Body, Controller, HttpCode, Module, Param, Post, type INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  ApiBadRequestResponse,
  ApiConflictResponse,
  ApiCreatedResponse,
  ApiExtraModels,
  ApiOkResponse,
  ApiProperty,
  DocumentBuilder,
  getSchemaPath,
  SwaggerModule,
  type OpenAPIObject,
} from '@nestjs/swagger';
import { fc } from '../support/property.js';
import { AtomicCounter, AtomicRedisModule, Idempotent, InvalidArgumentError } from 'nestjs-atomic-redis';
import { ApiAtomicProblems, ApiIdempotent, ProblemDetails } from 'nestjs-atomic-redis/openapi';
import { keyFromHeader } from '../../lib/idempotency/http/http-request.js';
import { useRedis } from '../support/redis.js';
import { faultsOf, operationsOf, type Operation } from './document.js';

class Order {
  @ApiProperty()
  id!: number;
}

class OwnProblem {
  @ApiProperty()
  title!: string;
}

const ownProblem = {
  description: 'Not for sale',
  content: { 'application/problem+json': { schema: { $ref: getSchemaPath(OwnProblem) } } },
};

@ApiExtraModels(OwnProblem)
@Controller('orders')
class OrdersController {
  private runs = 0;

  @Post()
  @ApiIdempotent()
  @ApiCreatedResponse({ type: Order, description: 'The order', headers: { ETag: { description: 'of it' } } })
  @Idempotent()
  create(@Body() _body: unknown): Order {
    return { id: ++this.runs };
  }

  @Post('waiting')
  @HttpCode(200)
  @ApiIdempotent()
  @Idempotent({
    headers: { key: 'X-Request-Key', replayed: 'X-Replayed' },
    onDuplicate: 'wait',
    required: false,
    onUnavailable: 'run',
  })
  wait(): Order {
    return { id: ++this.runs };
  }

  @Post('defaults')
  @ApiIdempotent({ preset: 'stripe', required: false, onDuplicate: 'wait', onUnavailable: 'run' })
  @Idempotent()
  defaults(): Order {
    return { id: ++this.runs };
  }

  @Post(':id/parcels')
  @ApiAtomicProblems('COUNTER_LIMIT')
  @ApiIdempotent()
  @ApiConflictResponse(ownProblem)
  @Idempotent({ key: (id: string) => id })
  async ship(@Param('id') id: string): Promise<Order> {
    return await this.count(id);
  }

  @AtomicCounter({ key: 'parcels', max: 1 })
  async count(_id: string): Promise<Order> {
    return { id: ++this.runs };
  }

  @Post(':id/payments')
  @ApiOkResponse({ type: Order })
  @ApiBadRequestResponse({ description: 'Of its own' })
  @ApiAtomicProblems('TRANSACTION_CONFLICT', 'INSUFFICIENT_FUNDS')
  pay(@Param('id') _id: string): void {}
}

@ApiAtomicProblems()
@Controller('catalog')
class CatalogController {
  @Post()
  @ApiCreatedResponse({ type: Order })
  import(): void {}
}

describe('nestjs-atomic-redis/openapi', () => {
  const redis = useRedis();
  let app: INestApplication;
  let url: string;
  let document: OpenAPIObject;
  let operations: Map<string, Operation>;

  beforeAll(async () => {
    @Module({
      imports: [AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:' })],
      controllers: [OrdersController, CatalogController],
    })
    class AppModule {}
    app = await NestFactory.create(AppModule, { logger: false });
    document = SwaggerModule.createDocument(app, new DocumentBuilder().build());
    operations = operationsOf(document);
    await app.listen(0, '127.0.0.1');
    url = await app.getUrl();
  });

  afterAll(() => app?.close());

  const operation = (name: string): Operation => operations.get(name)!;
  const codesOf = (name: string): Record<string, string[]> =>
    Object.fromEntries(
      Object.entries(operation(name).responses)
        .filter(([status]) => status >= '4')
        .map(([status, { content }]) => [
          status,
          Object.keys(content?.['application/problem+json']?.examples ?? {}),
        ]),
    );
  const post = (path: string, key?: string, body: unknown = {}): Promise<Response> =>
    fetch(url + path, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(key === undefined ? {} : { 'idempotency-key': key }),
      },
      body: JSON.stringify(body),
    });

  it('[API-1] makes a document whose references resolve', () => {
    expect(faultsOf(document)).toEqual([]);
  });

  it('[API-1] documents the key, the replay and the problems of an idempotent route', () => {
    expect(operation('POST /orders').parameters).toEqual([
      expect.objectContaining({ in: 'header', name: 'Idempotency-Key', required: true }),
    ]);
    expect(operation('POST /orders').responses['201']).toMatchObject({
      description: 'The order',
      headers: { 'Idempotency-Replayed': expect.anything(), ETag: { description: 'of it' } },
      content: { 'application/json': { schema: { $ref: '#/components/schemas/Order' } } },
    });
    expect(codesOf('POST /orders')).toEqual({
      400: ['IDEMPOTENCY_KEY_MISSING', 'IDEMPOTENCY_KEY_INVALID'],
      409: ['IDEMPOTENCY_IN_FLIGHT', 'IDEMPOTENCY_RESULT_UNAVAILABLE'],
      422: ['IDEMPOTENCY_MISMATCH', 'IDEMPOTENCY_CALLER_MISMATCH'],
      503: ['IDEMPOTENCY_OUTCOME_UNKNOWN', 'REDIS_UNAVAILABLE'],
    });
    for (const status of ['409', '503'])
      expect(operation('POST /orders').responses[status]!.headers).toHaveProperty('Retry-After');
    expect(operation('POST /orders').responses['422']!.headers).toEqual({});
  });

  it('[API-2] documents the options of @Idempotent()', () => {
    const { parameters, responses } = operation('POST /orders/waiting');
    expect(parameters).toEqual([expect.objectContaining({ name: 'X-Request-Key', required: false })]);
    expect(responses).not.toHaveProperty('200');
    expect(responses['2XX']!.headers).toMatchObject({
      'X-Replayed': { description: expect.stringContaining('waited for') as string },
    });
    expect(codesOf('POST /orders/waiting')).toMatchObject({
      400: ['IDEMPOTENCY_KEY_INVALID'],
      503: ['IDEMPOTENCY_OUTCOME_UNKNOWN'],
    });
    expect(operation('POST /orders/{id}/parcels').parameters.map(({ name }) => name)).toEqual(['id']);
    expect(codesOf('POST /orders/{id}/parcels')).not.toHaveProperty('400');
  });

  it('[API-2] takes the options of the module from its own options', () => {
    expect(operation('POST /orders/defaults').parameters).toEqual([
      expect.objectContaining({ name: 'Idempotency-Key', required: false }),
    ]);
    expect(Object.keys(operation('POST /orders/defaults').responses['2XX']!.headers!)).toEqual([
      'Idempotent-Replayed',
      'Idempotency-Key',
    ]);
    expect(codesOf('POST /orders/defaults')).toMatchObject({
      400: ['IDEMPOTENCY_KEY_INVALID'],
      503: ['IDEMPOTENCY_OUTCOME_UNKNOWN'],
    });
  });

  it('[API-3] documents the problems of routes and of whole controllers, beside the application’s own responses', () => {
    expect(codesOf('POST /orders/{id}/payments')).toEqual({
      400: [],
      409: ['TRANSACTION_CONFLICT', 'INSUFFICIENT_FUNDS'],
      503: ['REDIS_UNAVAILABLE', 'OUTCOME_UNKNOWN'],
    });
    expect(codesOf('POST /catalog')).toEqual({ 503: ['REDIS_UNAVAILABLE', 'OUTCOME_UNKNOWN'] });
    const conflict = operation('POST /orders/{id}/parcels').responses['409']!;
    expect(conflict.description).toBe(
      'Not for sale; Conflict: `IDEMPOTENCY_IN_FLIGHT`, `IDEMPOTENCY_RESULT_UNAVAILABLE`, `COUNTER_LIMIT`',
    );
    expect(conflict.content!['application/problem+json']!.schema).toEqual({
      oneOf: [{ $ref: '#/components/schemas/OwnProblem' }, { $ref: '#/components/schemas/ProblemDetails' }],
    });
  });

  it('[API-4] shows problems as they appear on the wire', async () => {
    await post('/orders', 'a');
    await post('/orders/1/parcels');
    const refused: [string, Response][] = [
      ['POST /orders', await post('/orders')],
      ['POST /orders', await post('/orders', 'b c')],
      ['POST /orders', await post('/orders', 'a', { other: 1 })],
      ['POST /orders/{id}/parcels', await post('/orders/2/parcels')],
    ];
    expect(refused.map(([, { status }]) => status)).toEqual([400, 400, 422, 409]);
    for (const [name, response] of refused) {
      const problem = (await response.json()) as ProblemDetails;
      const documented = operation(name).responses[response.status]!.content!['application/problem+json']!;
      expect(response.headers.get('content-type')).toContain('application/problem+json');
      const example = documented.examples![problem.code]!.value;
      expect(problem).toEqual({
        ...example,
        detail: expect.any(String) as string,
        instance: expect.stringMatching(/^urn:uuid:/) as string,
      });
      expect(Object.keys(problem).toSorted()).toEqual(
        (document.components!.schemas!.ProblemDetails as { required: string[] }).required.toSorted(),
      );
    }
  });

  it('[API-4] has a pattern that matches exactly the accepted keys', () => {
    const pattern = new RegExp(operation('POST /orders').parameters[0]!.schema.pattern!, 'u');
    const accepts = (value: string): boolean => {
      try {
        const request = { headers: { 'idempotency-key': value } };
        return keyFromHeader(request as never, 'Idempotency-Key') !== undefined;
      } catch {
        return false;
      }
    };
    const character = fc.oneof(fc.constantFrom('"', '\\', ',', ' ', 'a', '~', '!', '\x7f', 'é'), fc.string());
    const text = fc.array(character, { maxLength: 6 }).map((all) => all.join(''));
    const quoted = text.map((inner) => `"${inner.replaceAll(/["\\]/g, '\\$&')}"`);
    fc.assert(
      fc.property(fc.oneof(text, quoted), (value) => {
        fc.pre(value === value.trim());
        expect(pattern.test(value)).toBe(accepts(value));
      }),
    );
    for (const length of [0, 1, 255, 256])
      for (const value of ['k'.repeat(length), `"${'\\"'.repeat(length)}"`])
        expect([pattern.test(value), accepts(value)]).toEqual(Array(2).fill(length > 0 && length < 256));
  });

  it('[API-3] adds its schema, even to a document whose only decorated class is a controller', async () => {
    @Module({
      imports: [
        AtomicRedisModule.forRoot({ connection: redis.server.url, namespace: 'atomic:', lazyConnect: true }),
      ],
      controllers: [CatalogController],
    })
    class CatalogModule {}
    const catalog = await NestFactory.create(CatalogModule, { logger: false });
    expect(faultsOf(SwaggerModule.createDocument(catalog, new DocumentBuilder().build()))).toEqual([]);
    await catalog.close();
  });

  it('[API-5] refuses anything that cannot be documented, at once', () => {
    const below = (): unknown => {
      class Wrong {
        @Idempotent()
        @ApiIdempotent()
        async create(): Promise<void> {}
      }
      return Wrong;
    };
    expect(below).toThrow('Wrong.create: @ApiIdempotent() describes @Idempotent(), and must stand above it');
    expect(() => ApiAtomicProblems('CONFLICT' as never)).toThrow(InvalidArgumentError);
    expect(() => ApiIdempotent({ requird: true } as never)).toThrow(/requird/);
  });
});
