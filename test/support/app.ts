import { VersioningType, type HttpServer, type INestApplication, type ModuleMetadata } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import { AtomicRedisModule } from '../../lib/index.js';

type ModuleOptions = Parameters<typeof AtomicRedisModule.forRoot>[0];
type Options = Partial<ModuleOptions>;

/** Parts of an application beside the module, and what HTTP needs. */
export interface HttpParts extends ModuleMetadata {
  /** @default Express */
  readonly adapter?: HttpServer;
  /** Runs before the application listens. */
  readonly configure?: (app: INestApplication) => void;
}

/** Starts an application that has the module, and logs nothing. The caller closes it. */
export async function startApp(options: Options, parts: ModuleMetadata = {}): Promise<TestingModule> {
  const app = await compiled(options, parts);
  return await app.init();
}

/** Starts an application as `startApp` does, which listens on a free port of 127.0.0.1. */
export async function startHttpApp(options: Options, parts: HttpParts = {}): Promise<INestApplication> {
  const { adapter, configure, ...rest } = parts;
  const module = await compiled(options, rest);
  const app: INestApplication = adapter
    ? module.createNestApplication(adapter)
    : module.createNestApplication();
  configure?.(app);
  await app.listen(0, '127.0.0.1');
  return app;
}

/**
 * Starts applications, and closes each: after its test, or after the last test if it was started in
 * `beforeAll`. Call it first inside `describe`: then applications close before their servers stop.
 */
export function useApp(): typeof startApp & { http: typeof startHttpApp } {
  const lasting: Closable[] = [];
  const ofTest: Closable[] = [];
  let isTest = false;

  const kept = <App extends Closable>(app: App): App => {
    const close = app.close.bind(app);
    let closing: Promise<void> | undefined;
    app.close = () => (closing ??= close());
    (isTest ? ofTest : lasting).push(app);
    return app;
  };

  beforeEach(() => {
    isTest = true;
  });
  afterEach(async () => {
    isTest = false;
    await closeAll(ofTest);
  });
  afterAll(() => closeAll(lasting));

  return Object.assign(
    async (options: Options, parts?: ModuleMetadata) => kept(await startApp(options, parts)),
    {
      http: async (options: Options, parts?: HttpParts) => kept(await startHttpApp(options, parts)),
    },
  );
}

/** Serves routes below /api, and those with a version below /api/v1. */
export function withPrefixAndVersions(app: INestApplication): void {
  app.setGlobalPrefix('api');
  app.enableVersioning({ type: VersioningType.URI });
}

interface Closable {
  close(): Promise<void>;
}

const closeAll = (apps: Closable[]) => Promise.all(apps.splice(0).map((app) => app.close()));

async function compiled(
  options: Options,
  { imports = [], ...parts }: ModuleMetadata,
): Promise<TestingModule> {
  const ours = AtomicRedisModule.forRoot({ namespace: 'atomic:', ...options } as ModuleOptions);
  const module = await Test.createTestingModule({ imports: [ours, ...imports], ...parts }).compile();
  module.useLogger(false);
  return module;
}
