import type { OpenAPIObject } from '@nestjs/swagger';

export type Json = Record<string, unknown>;

export interface Operation {
  readonly operationId: string;
  readonly parameters: readonly {
    name: string;
    in: string;
    required: boolean;
    schema: { pattern?: string };
  }[];
  readonly responses: Readonly<Record<string, ResponseOf>>;
}

interface ResponseOf {
  readonly description: string;
  readonly headers?: Json;
  readonly content?: Record<string, { schema: Json; examples?: Record<string, { value: Json }> }>;
}

const VERBS = ['get', 'put', 'post', 'delete', 'patch'] as const;

/** `POST /orders` to what the document says of it. */
export const operationsOf = (document: OpenAPIObject): Map<string, Operation> =>
  new Map(
    Object.entries(document.paths).flatMap(([path, item]) =>
      VERBS.filter((verb) => item[verb]).map((verb): [string, Operation] => [
        `${verb.toUpperCase()} ${path}`,
        item[verb] as unknown as Operation,
      ]),
    ),
  );

/**
 * Returns the faults of the document's structure: references that lead nowhere, duplicate ids,
 * missing parts.
 */
export function faultsOf(document: OpenAPIObject): string[] {
  const faults: string[] = [];
  const visit = (value: unknown, at: string): void => {
    if (typeof value !== 'object' || value === null) return;
    const { $ref } = value as { $ref?: unknown };
    if (typeof $ref === 'string' && resolve(document, $ref) === undefined)
      faults.push(`${at}: ${$ref} leads nowhere`);
    for (const [key, item] of Object.entries(value)) visit(item, `${at}/${key}`);
  };
  visit(document, '#');
  const ids = new Set<string>();
  for (const [name, { operationId, parameters, responses }] of operationsOf(document)) {
    if (ids.has(operationId)) faults.push(`${name}: the operation id ${operationId} is used twice`);
    ids.add(operationId);
    for (const [, placeholder] of name.matchAll(/\{(\w+)\}/g))
      if (!parameters.some((one) => one.in === 'path' && one.name === placeholder && one.required))
        faults.push(`${name}: ${placeholder} is no parameter`);
    if (!Object.keys(responses).some((status) => status.startsWith('2')))
      faults.push(`${name}: no response for success`);
    for (const [status, response] of Object.entries(responses)) {
      if (!/^(?:[1-5]\d\d|[1-5]XX|default)$/.test(status)) faults.push(`${name}: ${status} is no status`);
      if (typeof response.description !== 'string')
        faults.push(`${name}: response ${status} has no description`);
    }
  }
  return faults;
}

const resolve = (document: object, reference: string): unknown =>
  reference
    .replace('#/', '')
    .split('/')
    .reduce<unknown>((at, key) => (at as Json | undefined)?.[key], document);
