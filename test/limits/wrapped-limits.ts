import type { Limit, LimitReservation, LimitResult, LimitsResult } from 'nestjs-atomic-redis';
import { Deadline } from '../../lib/runtime/deadline.js';
import { LimitBatches } from '../../lib/limits/limit-batch.js';
import { LimitCommands } from '../../lib/limits/limit-commands.js';
import * as operations from '../../lib/limits/limit.operations.js';
import * as reservations from '../../lib/limits/reservation.operations.js';
import { combined } from '../../lib/limits/limit-result.js';
import { checkedLimits } from '../../lib/limits/limit.js';
import { takeScript } from '../../lib/limits/take.script.js';
import { OperationRunner } from '../../lib/operations/operation-runner.js';
import { WorkInFlight } from '../../lib/runtime/work-in-flight.js';
import { defineScript, type Script } from '../../lib/scripting/script.js';
import { ScriptRunner } from '../../lib/scripting/script-runner.js';
import { connectionTo } from '../support/library-connection.js';

/**
 * Stands in front of a script: its clock is the key `clock`, in µs, and what expires by a real
 * clock does not.
 */
const CLOCK = `
local server = redis
local function answer(how, command, ...)
  if command == 'TIME' then
    local t = server.call('GET', 'clock')
    return {string.sub(t, 1, -7), string.sub(t, -6)}
  end
  local a, b, option = ...
  if command == 'SET' and option == 'PXAT' then return how('SET', a, b) end
  if command == 'PEXPIREAT' then return 1 end
  return how(command, ...)
end
local redis = {
  call = function(...) return answer(server.call, ...) end,
  pcall = function(...) return answer(server.pcall, ...) end,
}
`;

/**
 * Stands around a script: each call that is not answered as a copy is logged with its time in µs,
 * its keys, its runs and its answer.
 */
const LOG_BEGIN = `
local server, time = redis, nil
local redis = {
  call = function(command, ...)
    local answer = server.call(command, ...)
    if command == 'TIME' then time = answer end
    return answer
  end,
  pcall = server.pcall,
}
local function body()
`;
const LOG_END = `
end
local answer = body()
if time then
  local us = string.format('%.0f', time[1] * 1000000 + time[2])
  server.call('RPUSH', 'log', us .. '\\n' .. table.concat(KEYS, ' ', 2) .. '\\n' .. table.concat(ARGV, ' ', 4) .. '\\n' .. answer)
end
return answer
`;

type Wrap = (lua: string) => string;

/** By the key `clock`. */
export const clocked: Wrap = (lua) => CLOCK + lua;
/** By the server's clock, in the list `log`. */
export const logged: Wrap = (lua) => LOG_BEGIN + lua + LOG_END;

const wrapped = <S>(script: S, wrap: Wrap): S => {
  const one = script as unknown as Script;
  return defineScript({ ...one, lua: wrap(one.lua) }) as unknown as S;
};

const operationBy = <Operation extends { readonly script: unknown }>(
  operation: Operation,
  wrap: Wrap,
): Operation => ({ ...operation, script: wrapped(operation.script, wrap) });

/**
 * The limits of one process by the library's own scripts, with something of the test's around them.
 */
export class WrappedLimits {
  private readonly connection;
  private readonly commands: LimitCommands;
  private readonly runner: OperationRunner;
  private readonly peeking;
  private readonly reserving;
  private readonly settling;

  constructor(url: string, wrap: Wrap) {
    this.connection = connectionTo(url, 20_000);
    const scripts = new ScriptRunner(this.connection);
    const inFlight = new WorkInFlight();
    const batches = new LimitBatches(512, wrapped(takeScript, wrap));
    this.commands = new LimitCommands(
      this.connection,
      scripts,
      inFlight,
      { timeoutMs: 20_000, deduplicate: true, durability: undefined },
      batches,
    );
    const { observer } = this.connection;
    this.runner = new OperationRunner(
      this.connection,
      scripts,
      inFlight,
      observer,
      { timeoutMs: 20_000 },
      [],
    );
    this.peeking = operationBy(operations.peek, wrap);
    this.reserving = operationBy(reservations.reserve, wrap);
    this.settling = operationBy(reservations.settle, wrap);
  }

  ready(): Promise<void> {
    return this.connection.ready(Deadline.in(20_000));
  }

  close(): Promise<void> {
    return this.connection.close();
  }

  take(limits: readonly Limit[]): Promise<LimitsResult> {
    return new Promise((resolve, reject) => {
      const checked = checkedLimits(limits);
      this.commands.take(checked, {}, (all) => combined(checked, all), resolve, reject);
    });
  }

  async takeOne(limit: Limit): Promise<LimitResult> {
    return (await this.take([limit])).limits[0]!;
  }

  peek(limits: readonly Limit[]): Promise<LimitsResult | undefined> {
    return this.runner.part(this.peeking, { limits: checkedLimits(limits) }, {});
  }

  reserve(limits: readonly Limit[], ttlMs: number): Promise<LimitReservation> {
    return this.runner.part(this.reserving, { limits }, { ttlMs });
  }

  settle(id: string, actual: number | readonly number[]): Promise<boolean> {
    return this.runner.part(this.settling, { id, actual }, {});
  }
}
