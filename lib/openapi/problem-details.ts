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

  @ApiProperty({ type: String, description: 'The meaning of the HTTP status', example: 'Conflict' })
  readonly title!: string;

  @ApiProperty({ type: 'integer', description: 'The HTTP status', example: 409 })
  readonly status!: number;

  @ApiProperty({ type: String, description: 'The error, in words' })
  readonly detail!: string;

  @ApiProperty({
    type: String,
    description: 'The error, as a code for programs',
    example: 'TRANSACTION_CONFLICT',
  })
  readonly code!: string;

  @ApiProperty({
    enum: ['applied', 'not-applied', 'unknown'] satisfies Outcome[],
    description: 'Effect of the request',
  })
  readonly outcome!: string;

  @ApiProperty({ type: Boolean, description: 'True if the same request may be sent again' })
  readonly retryable!: boolean;

  @ApiProperty({
    type: String,
    required: false,
    description: 'The record of an idempotency key whose call is over without an answer',
  })
  readonly record?: string;
}
