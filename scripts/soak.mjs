import { join } from 'node:path';
import { root, runAsMain, start } from './setup/process.mjs';
import { setup } from './setup.mjs';

const usage = `Usage: npm run soak -- transactions [--transactions 20000] [--faults 500] [--restarts 5] [--seed n]
       npm run soak -- bodies [--transactions 100000] [--faults 500] [--restarts 5] [--seed n]
       npm run soak -- idempotency [--keys 5000] [--kills 40] [--pauses 80] [--restarts 5] [--seed n]
       npm run soak -- steps [--keys 3000] [--faults 3000] [--seed n]
       npm run soak -- http [--cases 10000] [--seed n]
       npm run soak -- contention [--increments 200]
       npm run soak -- shadow-swap [--fields 1000000] [--rounds 5] [--pause 20]
       npm run soak -- cluster [--moves 60] [--failovers 20] [--kills 12] [--stalls 6] [--seed n]
       npm run soak -- histories [--seconds 60] [--moves 20] [--failovers 6] [--kills 6] [--leap 30000] [--parts 31] [--seed n]
       npm run soak -- queues [--jobs 50000] [--kills 60] [--kill-every 600] [--seed n]
       npm run soak -- handover [--jobs 50000] [--kills 60] [--pauses 30] [--strike-every 1000] [--seed n]
       npm run soak -- production [--seconds 600] [--seed n]`;

/** Runs the library for minutes under faults: `npm run soak -- transactions`. */
await runAsMain(import.meta.url, usage, async () => {
  // It kills and restarts its server: never one that REDIS_URL names.
  const env = await setup({ needServer: true, ownServer: true });
  const runner = [join(root, 'test/support/run-ts.cjs'), join(root, 'test/soak/main.ts')];
  return start(process.execPath, [...runner, ...process.argv.slice(2)], { env });
});
