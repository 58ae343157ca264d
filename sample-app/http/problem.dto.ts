/** The body of an error response. */
export class Problem {
  title!: string;
  status!: number;
  detail!: string;
  /** Distinguishes problems of the same status for programs. */
  code?: string;
  /** States of the parts, for a health check. */
  details?: object;
}
