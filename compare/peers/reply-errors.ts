import { ErrorReply } from 'redis';

/** A command that Redis has refused, told by ioredis. */
export const isIoredisReply = (error: unknown): boolean => (error as Error).name === 'ReplyError';

/** A command that Redis has refused, told by node-redis. */
export const isNodeRedisReply = (error: unknown): boolean => error instanceof ErrorReply;
