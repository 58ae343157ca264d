import { catalogueSwap } from './catalogue-swap.js';
import { counter } from './counter.js';
import { orderRetry } from './order-retry.js';
import type { Scenario } from './scenario.js';
import { stock } from './stock.js';
import { withdraw } from './withdraw.js';

export const SCENARIOS = {
  withdraw,
  stock,
  'order-retry': orderRetry,
  counter,
  'catalogue-swap': catalogueSwap,
} satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof SCENARIOS;
