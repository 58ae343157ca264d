import type { INestApplication, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';

export const createApplication = (module: Type): Promise<INestApplication> =>
  NestFactory.create(module, { logger: ['error', 'warn'] });
