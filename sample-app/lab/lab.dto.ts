import { IsIn, IsInt, Max, Min } from 'class-validator';
import { FAULTS, type FaultName } from './faults.js';
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
}
