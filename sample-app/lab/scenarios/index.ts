import { chargeAndRecord } from './charge-and-record.js';
import { catalogueSwap } from './catalogue-swap.js';
import { counter } from './counter.js';
import { orderRetry } from './order-retry.js';
import type { Scenario } from './scenario.js';
import { stoppedHolder } from './stopped-holder.js';
import { stock } from './stock.js';
import { withdraw } from './withdraw.js';

export const SCENARIOS = {
  withdraw,
  stock,
  'order-retry': orderRetry,
  counter,
  'catalogue-swap': catalogueSwap,
  'charge-and-record': chargeAndRecord,
  'stopped-holder': stoppedHolder,
} satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof SCENARIOS;
