import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> };
const ours = Object.entries(scripts).filter(([, command]) => /^node scripts\/[\w-]+\.mjs$/.test(command));

describe('npm scripts', () => {
  it.each(ours)('npm run %s -- --help prints how it is used', (name, command) => {
    const [program, ...args] = command.split(' ');
    const { status, stdout, stderr } = spawnSync(program!, [...args, '--help'], { encoding: 'utf8' });
    const short = ['start', 'test'].includes(name) ? `npm ${name}` : `npm run ${name}`;
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(`Usage: ${short}`);
  });

  it('npm run bench refuses an option that it does not know, and prints how it is used', () => {
    const { status, stderr } = spawnSync('node', ['scripts/bench.mjs', '--round', '5'], { encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toMatch("Unknown option '--round'");
    expect(stderr).toMatch('Usage: npm run bench');
  });
});
