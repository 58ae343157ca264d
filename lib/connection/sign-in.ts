import type { Redis } from 'ioredis';
import { isClusterClient, type RedisClient } from './client.js';
import { replyCode } from './reply-errors.js';
import { adopt, useCredentials, type Credentials } from './credentials.js';

/**
 * ioredis recognises a server without RESP3 by one wording of the refusal. Services have their own.
 */
function refusesHello(error: Error & { command?: { name?: string } }): boolean {
  const isRefused = error.command?.name?.toLowerCase() === 'hello' && replyCode(error) === 'ERR';
  return isRefused && !error.message.includes('max number of clients');
}

/**
 * Lets every connection of the client sign in with the credentials, and speak RESP2 where the
 * server refuses HELLO.
 */
export function prepareSignIn(client: RedisClient, credentials: Credentials | undefined): void {
  const prepare = (one: Redis): void => {
    one.on('error', (error: Error) => {
      if (refusesHello(error)) one.options.protocol = 2;
    });
    if (credentials) useCredentials(one, credentials, { persists: one === client });
  };
  if (!isClusterClient(client)) return prepare(client);
  client.on('+node', (node: Redis) => {
    if (credentials?.known) adopt(node, credentials.known);
    prepare(node);
  });
}
