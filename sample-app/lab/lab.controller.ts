import {
  Body,
  Controller,
  Get,
  HttpCode,
  RequestMethod,
  Sse,
  SseSignal,
  type MessageEvent,
} from '@nestjs/common';
import { ApiExcludeController } from '@nestjs/swagger';
import { defer, from, map, type Observable } from 'rxjs';
import { FAULTS, type FaultName } from './faults.js';
import { sourceOf, type HandlerSource } from './handler-source.js';
import { RunDto } from './lab.dto.js';
import { LabService } from './lab.service.js';
import { SCENARIOS, type ScenarioName } from './scenarios/index.js';
import type { Scenario, Side } from './scenarios/scenario.js';

export interface ScenarioDescription extends Pick<Scenario, 'labels' | 'means' | 'latency' | 'page'> {
  /** The label of the scenario's own fault. */
  fault: string | undefined;
  /** The label of each kind of error. */
  wrongs: Record<string, string>;
  handlers: Record<Side, HandlerSource[]>;
}

export interface LabDescription {
  scenarios: Record<ScenarioName, ScenarioDescription>;
  faults: Record<FaultName, { label: string }>;
}

/** Only in the shop that `npm start` runs on its embedded Redis. */
@ApiExcludeController()
@Controller('lab')
export class LabController {
  constructor(private readonly lab: LabService) {}

  @Get()
  async describe(): Promise<LabDescription> {
    this.lab.warmUp();
    const scenarios = await mapValues(SCENARIOS, async (scenario: Scenario) => ({
      labels: scenario.labels,
      means: scenario.means,
      latency: scenario.latency,
      page: scenario.page,
      fault: scenario.fault?.label,
      wrongs: await mapValues(scenario.wrongs, async ({ label }) => label),
      handlers: await mapValues(scenario.handlers, (names) => Promise.all(names.map(sourceOf))),
    }));
    const faults = await mapValues(FAULTS, async ({ label }) => ({ label }));
    return { scenarios, faults };
  }

  /** The run lasts as long as its answer: a client that goes away ends it. */
  @Sse('runs', { method: RequestMethod.POST })
  @HttpCode(200)
  run(@Body() dto: RunDto, @SseSignal() gone: AbortSignal): Observable<MessageEvent> {
    return defer(() => from(this.lab.run(dto, gone))).pipe(map((event) => ({ data: event })));
  }
}

async function mapValues<K extends string, V, R>(
  record: Readonly<Record<K, V>>,
  change: (value: V) => Promise<R>,
): Promise<Record<K, R>> {
  const entries = Object.entries<V>(record).map(async ([key, value]) => [key, await change(value)] as const);
  return Object.fromEntries(await Promise.all(entries)) as Record<K, R>;
}
