import type { Fault, FaultProxy } from '../../lib/testing/index.js';

/** Arms faults at a proxy one by one, and counts those that struck. */
export abstract class ProxyFaults {
  cuts = 0;
  private readonly armed: Fault[] = [];

  constructor(
    protected readonly proxy: FaultProxy,
    protected readonly random: () => number,
  ) {}

  get lostReplies(): number {
    return this.armed.reduce((sum, { count }) => sum + count, 0);
  }

  /** Arms the next fault, or cuts every connection. */
  abstract next(): void;

  end(): void {
    for (const fault of this.armed) fault.cancel();
  }

  protected arm(fault: Fault): Fault {
    this.armed.push(fault);
    return fault;
  }

  protected cut(): void {
    this.cuts++;
    this.proxy.disconnectAll();
  }
}
