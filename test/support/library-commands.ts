import { LIBRARY_SCRIPTS } from './library-scripts.js';

/** Those that are nothing without a subcommand, or are for development only. */
const NOT_NEEDED = new Set(['COMMAND']);

/** The commands that a script names in its text. */
export function commandsOf(lua: string): string[] {
  const named = [...lua.matchAll(/redis\.p?call\(\s*['"](\w+)['"]/g)].map(([, name]) => name!.toUpperCase());
  return [...new Set(named)].filter((name) => !NOT_NEEDED.has(name));
}

/** What all scripts of the library name together. */
export const libraryCommands = (): string[] => [
  ...new Set(LIBRARY_SCRIPTS.flatMap(([, { lua }]) => commandsOf(lua))),
];
