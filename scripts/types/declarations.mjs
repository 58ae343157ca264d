import { join } from 'node:path';
import ts from 'typescript';
import { root } from '../setup/process.mjs';

/**
 * Returns a program that uses each function, method and property of the package, and says no type of what comes back.
 * TypeScript must be able to write its declarations: each type that a call returns has an exported name, or is written out.
 * @param exports the exports map of the package
 */
export function declarationsOf(exports) {
  const entries = Object.entries(exports).filter(([, entry]) => entry.types);
  const files = entries.map(([, { types }]) => join(root, types));
  const options = { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, strict: true };
  const program = ts.createProgram(files, options);
  const checker = program.getTypeChecker();
  const lines = [];
  const imports = [];
  for (const [i, [path]] of entries.entries()) {
    const names = [];
    for (const exported of checker.getExportsOfModule(
      checker.getSymbolAtLocation(program.getSourceFile(files[i])),
    )) {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
      const own = usesOf(exported.name, symbol, checker);
      if (own.length > 0)
        names.push(symbol.flags & ts.SymbolFlags.Value ? exported.name : `type ${exported.name}`);
      lines.push(...own);
    }
    if (names.length > 0)
      imports.push(`import { ${names.join(', ')} } from '${join('nestjs-atomic-redis', path)}';`);
  }
  return [...imports, '', ...lines, ''].join('\n');
}

/** The names of types that an application makes, and does not get. */
const GIVEN = /Options$|^Telemetry/;

function usesOf(name, symbol, checker) {
  const { flags } = symbol;
  if (flags & ts.SymbolFlags.Function)
    return [
      `declare const for${name}: Parameters<typeof ${name}>;`,
      `export const ${name}_ = () => ${name}(...for${name});`,
    ];
  // These go in and never come back.
  if (!(flags & (ts.SymbolFlags.Class | ts.SymbolFlags.Interface)) || GIVEN.test(name)) return [];
  const type = checker.getDeclaredTypeOfSymbol(symbol);
  const parameters = (type.typeParameters ?? []).map(() => 'any').join(', ');
  const typed = parameters ? `${name}<${parameters}>` : name;
  const uses = [`declare const a${name}: ${typed};`];
  for (const member of checker.getPropertiesOfType(type)) {
    if (!/^[A-Za-z]\w*$/.test(member.name) || isHidden(member)) continue;
    const { name: property } = member;
    // Its parameters are not part of what is declared.
    if (takesRestOnly(member)) uses.push(`export const ${name}_${property} = () => a${name}.${property}();`);
    else if (member.flags & ts.SymbolFlags.Method) {
      uses.push(`declare const for${name}_${property}: Parameters<${typed}['${property}']>;`);
      uses.push(`export const ${name}_${property} = () => a${name}.${property}(...for${name}_${property});`);
    } else uses.push(`export const ${name}_${property} = () => a${name}.${property};`);
  }
  return uses;
}

const takesRestOnly = (member) =>
  member.declarations?.some(({ parameters }) => parameters?.length === 1 && parameters[0].dotDotDotToken);

const isHidden = (member) =>
  member.declarations?.some(
    (one) => ts.getCombinedModifierFlags(one) & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected),
  );
