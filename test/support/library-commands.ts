import { LIBRARY_SCRIPTS } from './library-scripts.js';

/** Commands that need a subcommand, or are for development only. */
const NOT_NEEDED = new Set(['COMMAND']);

/** The commands that a script names in its text. */
export function commandsOf(lua: string): string[] {
  const named = [...lua.matchAll(/redis\.p?call\(\s*['"](\w+)['"]/g)].map(([, name]) => name!.toUpperCase());
  return [...new Set(named)].filter((name) => !NOT_NEEDED.has(name));
}

/** All commands that the library's scripts name. */
export const libraryCommands = (): string[] => [
  ...new Set(LIBRARY_SCRIPTS.flatMap(([, { lua }]) => commandsOf(lua))),
];
