import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const script = resolve('scripts/guarantees.mjs');

describe('scripts/guarantees.mjs', () => {
  let root: string;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'guarantees-'));
    mkdirSync(join(root, 'docs'));
    mkdirSync(join(root, 'test/deep'), { recursive: true });
  });

  afterEach(() => rmSync(root, { recursive: true, force: true }));

  function run(...args: string[]): { status: number | null; text: string } {
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, '--root', root, ...args], {
      encoding: 'utf8',
    });
    return { status, text: stdout + stderr };
  }

  function check(guarantees: string, spec: string): { status: number | null; text: string } {
    writeFileSync(join(root, 'docs/guarantees.md'), guarantees);
    writeFileSync(join(root, 'test/deep/some.spec.ts'), spec);
    return run('--write');
  }

  it('accepts a test for every guarantee, whatever the form of the line and of the call', () => {
    const guarantees = `# Guarantees
### **TX-1** in a heading
- **TX-2** in a list
* **ID-1.** with a full stop
| **CT-1** | in a table |
**G1** in a paragraph
- **MOD-2** by a group
Prose may mention **SC-9** without declaring it.`;
    const spec = `
it('[TX-1] single', () => {});
test.each([1, 2])("[TX-2] each %i", () => {});
it.each\`a\n\${1}\`(\`[ID-1] \${'template'}\`, async () => {});
(process.env.X ? it : it.skip)('does this [CT-1][G1] ' + 'and that', () => {});
describe('[MOD-2] a group', () => { it('has a test', () => {}); });`;
    expect(check(guarantees, spec)).toEqual({ status: 0, text: '6 guarantees, each with a test.\n' });
  });

  it('names the guarantees without a test that runs', () => {
    const guarantees = ['TX-1', 'TX-2', 'TX-3', 'TX-4', 'TX-5', 'TX-6', 'TX-7']
      .map((id) => `- **${id}** …`)
      .join('\n');
    const spec = `
// it('[TX-1] in a comment', () => {});
it.skip('[TX-2] skipped', () => {});
it.todo('[TX-3] to do');
xit('[TX-4] skipped', () => {});
describe.skip('a skipped group', () => { it('[TX-5]', () => {}); });
describe('[TX-6] an empty group', () => {});
log('[TX-7] not a test');`;
    const { status, text } = check(guarantees, spec);
    expect(status).toBe(1);
    for (const id of ['TX-1', 'TX-2', 'TX-3', 'TX-4', 'TX-5', 'TX-6', 'TX-7']) {
      expect(text).toContain(`${id} has no test with [${id}] in its title`);
    }
  });

  it('names ids that tests have and the document lacks, and ids declared twice', () => {
    const { status, text } = check('- **TX-1** a\n- **TX-1** b', "it('[TX-1] [TX-9] both', () => {});");
    expect(status).toBe(1);
    expect(text).toContain('TX-9 is tested in test/deep/some.spec.ts, but is not in docs/guarantees.md');
    expect(text).toContain('TX-1 is declared twice in docs/guarantees.md');
    expect(text).not.toContain('at ');
  });

  it('writes the spec files of each guarantee, and detects an outdated list', () => {
    check('- **TX-1** a', "it('[TX-1] a', () => {});");
    expect(run().status).toBe(0);
    expect(readFileSync(join(root, 'docs/guarantees.md'), 'utf8')).toContain(
      '- TX-1\n  - [deep/some](../test/deep/some.spec.ts)\n',
    );
    expect(run('TX-1')).toEqual({ status: 0, text: 'test/deep/some.spec.ts\n' });

    writeFileSync(join(root, 'test/deep/other.spec.ts'), "it('[TX-1] b', () => {});");
    const { status, text } = run();
    expect(status).toBe(1);
    expect(text).toContain('"## Where each is tested" in docs/guarantees.md is out of date');
  });

  it('names the mutants that no longer fit the code or its tests', () => {
    mkdirSync(join(root, 'test/mutants'));
    const spec = 'test/deep/some.spec.ts';
    const file = 'code.ts';
    const fitting = { name: 'fits', file, replace: 'one', with: 'two', spec, title: '[TX-1] single' };
    const mutants = [
      fitting,
      { ...fitting, name: 'filled-in', title: '[TX-1] each of a and b' },
      { ...fitting, name: 'gone', replace: 'three' },
      { ...fitting, name: 'twice', replace: 'const' },
      { ...fitting, name: 'no-program', with: '(' },
      { ...fitting, name: 'no-file', file: 'other.ts' },
      { ...fitting, name: 'no-spec', spec: 'test/other.spec.ts' },
      { ...fitting, name: 'no-test', title: '[TX-1] another' },
    ];
    writeFileSync(join(root, 'test/mutants/named.json'), JSON.stringify(mutants));
    writeFileSync(join(root, file), 'const one = 1;\nconst other = 2;\n');
    const { status, text } = check(
      '- **TX-1** a',
      "it('[TX-1] single one', () => {});\nit.each([])('[TX-1] each of %s and %s', () => {});",
    );
    expect(status).toBe(1);
    expect(text.split('\n').filter((line) => line.includes('mutant '))).toEqual([
      '  - mutant gone: code.ts has its text 0 times instead of once',
      '  - mutant twice: code.ts has its text 2 times instead of once',
      '  - mutant no-program: it leaves no program of code.ts',
      '  - mutant no-file: other.ts does not exist',
      '  - mutant no-spec: test/other.spec.ts does not exist',
      '  - mutant no-test: no test of test/deep/some.spec.ts has the title "[TX-1] another"',
    ]);
  });

  it('refuses a document that declares nothing', () => {
    const { status, text } = check('# Guarantees', '');
    expect(status).toBe(1);
    expect(text).toContain('docs/guarantees.md declares no guarantee');
  });
});
