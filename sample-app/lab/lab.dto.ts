import { IsIn, IsInt, IsOptional, Max, Min } from 'class-validator';
import { FAULTS, type FaultName } from './faults.js';
import { LONGEST_CALLS_MS } from './limits.js';
import { SCENARIOS, type ScenarioName } from './scenarios/index.js';

export class RunDto {
  @IsIn(Object.keys(SCENARIOS))
  scenario!: ScenarioName;

  @IsInt()
  @Min(1)
  @Max(200)
  callers!: number;

  @IsIn(Object.keys(FAULTS))
  fault!: FaultName;

  /** Time in which calls begin, in milliseconds. @default 12000 */
  @IsOptional()
  @IsInt()
  @Min(100)
  @Max(LONGEST_CALLS_MS)
  forMs?: number;
}
