import { ApiProperty } from '@nestjs/swagger';
import type { Outcome } from '../atomic-redis.errors.js';
import type { Problem } from '../problem-details/problem.js';

/**
 * The schema of the problem details that the module's exception filter sends.
 * https://www.rfc-editor.org/rfc/rfc9457
 */
export class ProblemDetails implements Problem {
  @ApiProperty({ type: String, format: 'uri', description: 'Where the problem is explained' })
  readonly type!: string;

  @ApiProperty({
    type: String,
    format: 'uri',
    description: 'Names this occurrence, also in the log of the server',
  })
  readonly instance!: string;

  @ApiProperty({ type: String, description: 'What the HTTP status says', example: 'Conflict' })
  readonly title!: string;

  @ApiProperty({ type: 'integer', description: 'The HTTP status', example: 409 })
  readonly status!: number;

  @ApiProperty({ type: String, description: 'What went wrong, for people' })
  readonly detail!: string;

  @ApiProperty({
    type: String,
    description: 'What went wrong, for programs',
    example: 'TRANSACTION_CONFLICT',
  })
  readonly code!: string;

  @ApiProperty({
    enum: ['applied', 'not-applied', 'unknown'] satisfies Outcome[],
    description: 'Whether the request took effect',
  })
  readonly outcome!: string;

  @ApiProperty({ type: Boolean, description: 'Whether the same request may be sent again' })
  readonly retryable!: boolean;

  @ApiProperty({
    type: String,
    required: false,
    description: 'The record of an idempotency key whose call is over without an answer',
  })
  readonly record?: string;
}
