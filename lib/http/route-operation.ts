import { RequestMethod } from '@nestjs/common';
import type { ModulesContainer } from '@nestjs/core';

/** Metadata of Nest. */
const PATH = 'path';
const METHOD = 'method';
const VERSION = '__version__';
const MODULE_PATH = '__module_path__';

/**
 * Names the operation of a route, from Nest's own metadata: `POST /accounts/:id/deposits`, and
 * `POST /accounts version 2`. The name is the same on every platform adapter and in every build: no
 * class name is part of it, because bundlers rename classes. If there are several paths, the first
 * counts. A global prefix does not count.
 *
 * @param modulePath that `RouterModule` puts in front
 * @returns undefined for a method that is no route
 */
export function routeOperation(type: object, method: object, modulePath: string): string | undefined {
  const path: unknown = Reflect.getMetadata(PATH, method);
  const verb = Reflect.getMetadata(METHOD, method) as RequestMethod | undefined;
  if (path === undefined || verb === undefined) return undefined;
  const parts = [modulePath, firstOf(Reflect.getMetadata(PATH, type)), firstOf(path)];
  const joined = parts.map((part) => part.replaceAll(/^\/+|\/+$/g, '')).filter((part) => part !== '');
  return `${RequestMethod[verb]} /${joined.join('/')}${versionOf(type, method)}`;
}

const firstOf = (path: unknown): string => String((Array.isArray(path) ? path[0] : path) ?? '');

/** Two versions may share a path. */
function versionOf(type: object, method: object): string {
  const version: unknown = Reflect.getMetadata(VERSION, method) ?? Reflect.getMetadata(VERSION, type);
  if (version === undefined) return '';
  const versions = (Array.isArray(version) ? version : [version]) as unknown[];
  return ` version ${versions.map((one) => (typeof one === 'symbol' ? 'neutral' : String(one))).join()}`;
}

/**
 * Returns the path that `RouterModule` puts in front of a module's routes. Another application of
 * this process may have another one.
 */
export function modulePathOf({ applicationId }: ModulesContainer, module: object): string {
  const path: unknown =
    Reflect.getMetadata(MODULE_PATH + applicationId, module) ?? Reflect.getMetadata(MODULE_PATH, module);
  return typeof path === 'string' ? path : '';
}
