import { worker } from '../support/worker.js';
import { Mails, openMails, type IdempotentData } from './mails.js';

/** Begins to send a mail, and stands still. */
worker<IdempotentData>(async ({ data, send }) => {
  Mails.begin = () => {
    send('begun');
    return new Promise(() => undefined);
  };
  await (await openMails(data)).init();
  await new Promise(() => undefined);
});
