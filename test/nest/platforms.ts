import type { INestApplication } from '@nestjs/common';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { TestingModule } from '@nestjs/testing';

export const PLATFORMS = ['Express', 'Fastify'] as const;

export const createApplication = (
  module: TestingModule,
  platform: (typeof PLATFORMS)[number],
): INestApplication =>
  module.createNestApplication(platform === 'Express' ? new ExpressAdapter() : new FastifyAdapter());
