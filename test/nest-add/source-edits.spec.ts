import { enableShutdownHooks, importModule, withVariable } from '../../lib/nest-add/source-edits.js';

const call = "AtomicRedisModule.forRoot({\n  namespace: 'shop:',\n})";

describe('importModule', () => {
  const head = `import { Module } from '@nestjs/common';\n`;

  it.each([
    ['an empty list', '@Module({\n  imports: [],\n})'],
    ['no list', '@Module({\n  providers: [],\n})'],
    ['nothing at all', '@Module({})'],
  ])('adds the module to %s', (_, decorator) => {
    const changed = importModule(`${head}\n${decorator}\nexport class AppModule {}\n`, call);
    expect(changed).toContain(`${head}import { AtomicRedisModule } from 'nestjs-atomic-redis';\n`);
    expect(changed).toMatch(
      /imports: \[\n {4}AtomicRedisModule\.forRoot\(\{\n {6}namespace: 'shop:',\n {4}\}\),\n {2}\]/,
    );
  });

  it.each([
    ['on one line', 'imports: [A, B.forRoot({ x: [1] })],', 'A, B.forRoot({ x: [1] }),'],
    ['on lines', "imports: [\n    A,\n    B.of(')]'),\n  ],", "\n    A,\n    B.of(')]'),"],
    ['after other properties', 'providers: [],\n  imports: [A],', 'A,'],
  ])('adds the module after the others, %s', (_, property, entries) => {
    const changed = importModule(`${head}@Module({\n  ${property}\n})\nexport class AppModule {}`, call);
    expect(changed).toContain(
      `imports: [${entries}\n    AtomicRedisModule.forRoot({\n      namespace: 'shop:',\n    }),\n  ],\n})\nexport`,
    );
  });

  it.each([
    ['no module', 'export const x = 1;'],
    ['a list from elsewhere', '@Module({ imports })\nexport class AppModule {}'],
    ['a list that is computed', '@Module({ imports: list() })\nexport class AppModule {}'],
    ['a comment within', '@Module({ imports: [A, // ]\n] })\nexport class AppModule {}'],
    ['a quote that is escaped', "@Module({ imports: [A('\\'')] })\nexport class AppModule {}"],
    ['a list that never ends', '@Module({ imports: [A'],
  ])('leaves a source unchanged that has %s', (_, source) => {
    expect(importModule(source, call)).toBeUndefined();
  });
});

describe('enableShutdownHooks', () => {
  it('is inserted before listen(), whatever the application is called', () => {
    expect(enableShutdownHooks('  await server.listen(3000);')).toBe(
      '  server.enableShutdownHooks();\n  await server.listen(3000);',
    );
  });

  it('leaves a source unchanged that does not listen', () => {
    expect(enableShutdownHooks('const app = await create();')).toBeUndefined();
  });
});

describe('withVariable', () => {
  it.each([
    ['', 'A=1\n'],
    ['B=2', 'B=2\nA=1\n'],
    ['B=2\n', 'B=2\nA=1\n'],
    ['A=other\n', 'A=other\n'],
    ['export A = other\n', 'export A = other\n'],
    ['# A=1\n', '# A=1\nA=1\n'],
    ['BA=1\n', 'BA=1\nA=1\n'],
  ])('turns %j into %j', (before, after) => {
    expect(withVariable(before, 'A', '1')).toBe(after);
  });
});
