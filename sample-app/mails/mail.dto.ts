/** Counts of the mails for orders. */
export class MailCounts {
  /** To be taken, now or later. */
  pending!: number;
  /** Waiting mails that are delayed. */
  delayed!: number;
  /** Taken and not ended. */
  processing!: number;
  /** Given up. */
  dead!: number;
  sent!: number;
}
