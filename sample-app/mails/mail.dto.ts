/** Of the mails for orders. */
export class MailCounts {
  /** To be taken, now or later. */
  pending!: number;
  /** Those of them that wait for their time. */
  delayed!: number;
  /** Taken and not ended. */
  processing!: number;
  /** Given up. */
  dead!: number;
  sent!: number;
}
