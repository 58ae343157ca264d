/** Of the mails for orders. */
export class MailCounts {
  /** To be taken. */
  pending!: number;
  /** Taken and not ended. */
  processing!: number;
  /** Given up. */
  dead!: number;
  sent!: number;
}
