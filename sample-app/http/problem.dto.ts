/** What the shop answers with when it refuses a request. */
export class Problem {
  title!: string;
  status!: number;
  detail!: string;
  /** Of problems that a program may tell from others of the same status. */
  code?: string;
  /** Of a health check: how each part is. */
  details?: object;
}
