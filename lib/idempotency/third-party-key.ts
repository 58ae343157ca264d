import { hash } from 'node:crypto';
import { checkStepName } from './steps/step.options.js';

const part = (text: string): string => `${Buffer.byteLength(text)}:${text}`;

/**
 * Returns a key for a third party: 43 characters of base64url, the same for one record, epoch and
 * name in every process. It tells nothing of what it is made of.
 *
 * @throws InvalidArgumentError for anything but a name
 */
export function thirdPartyKey(record: string, keysEpoch: string, name: string): string {
  checkStepName('name', name);
  return hash('sha256', part(record) + part(keysEpoch) + part(name), 'base64url');
}
