// The parts of untyped middleware that the specs use.

declare module 'express-session' {
  export default function session(options: object): (...args: unknown[]) => void;
}

declare module 'cookie-session' {
  export default function session(options: object): (...args: unknown[]) => void;
}

declare module 'passport' {
  const passport: {
    use(strategy: object): void;
    authenticate(
      strategy: string,
      options: object,
      done: (error: unknown, user: unknown) => void,
    ): (request: object, response: object, next: (error: unknown) => void) => void;
  };
  export default passport;
}

type Done = (error: unknown, user: object) => void;

declare module 'passport-jwt' {
  export const ExtractJwt: { fromAuthHeaderAsBearerToken(): unknown };
  export class Strategy {
    constructor(options: object, verify: (claims: object, done: Done) => void);
  }
}

declare module 'passport-local' {
  export class Strategy {
    constructor(verify: (username: string, password: string, done: Done) => void);
  }
}

declare module '@golevelup/nestjs-rabbitmq' {
  export class AmqpConnection {
    readonly channel: { checkQueue(queue: string): Promise<{ messageCount: number }> };
    publish(exchange: string, routingKey: string, message: object): Promise<boolean>;
    request<T>(request: object): Promise<T>;
  }
  export class Nack {
    constructor(requeue?: boolean);
  }
  export const MessageHandlerErrorBehavior: { readonly NACK: string };
  export class RabbitMQModule {
    static forRoot(config: object): import('@nestjs/common').DynamicModule;
  }
  export function RabbitSubscribe(config: object): MethodDecorator;
  export function RabbitRPC(config: object): MethodDecorator;
}
