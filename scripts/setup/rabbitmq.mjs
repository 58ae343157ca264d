import { existsSync } from 'node:fs';
import { locked } from './lock.mjs';
import { installPackage } from './package-manager.mjs';

/**
 * Places where packages put the program itself; the script on PATH starts the system's own server.
 */
const PROGRAMS = [
  '/usr/lib/rabbitmq/bin/rabbitmq-server',
  '/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server',
  '/usr/local/opt/rabbitmq/sbin/rabbitmq-server',
];

/**
 * The path of a RabbitMQ server program, installed if need be; null where none can be had: tests
 * then observe the calls on channels of their own.
 */
export async function setUpRabbit() {
  const found = findRabbit();
  if (found) return found;
  return await locked(async () => {
    const obstacles = findRabbit() ? [] : await installPackage('rabbitmq');
    const installed = findRabbit();
    if (!installed)
      console.error(['No RabbitMQ: its rules are observed instead.', ...obstacles].join('\n  - '));
    return installed;
  });
}

const findRabbit = () =>
  [process.env.RABBITMQ_SERVER_BINARY, ...PROGRAMS].find((program) => program && existsSync(program)) ?? null;
