import { decoded, type Decoded, type Encoding, type EncodingOptions } from '../scripting/encoding.js';
import { NotAnAuditLogError } from './audited-hash.errors.js';
import { readNetstrings } from './netstrings.js';

/** One change of one field. `V` is a string, or with `encoding: 'buffer'` a Buffer. */
export interface AuditEntry<V extends string | Buffer = string> {
  /** `<milliseconds>-<number>`, growing. */
  readonly id: string;
  /** The time of the change, by Redis's clock. */
  readonly time: Date;
  readonly field: string;
  /** The value before the change; null if there was none. */
  readonly old: V | null;
  /** The value after the change; null if the field was deleted. */
  readonly new: V | null;
  /** The actor of the change; null if the call named none. */
  readonly actor: string | null;
}

/** @throws NotAnAuditLogError for an entry that this library did not write */
export function readStreamEntry<E extends Encoding>(
  log: string,
  raw: unknown,
  options: EncodingOptions<E>,
): AuditEntry<Decoded<E>> {
  const [id, pairs] = raw as [Buffer, Buffer[]];
  const parts = new Map<string, Buffer>();
  for (let i = 0; i + 1 < pairs.length; i += 2) parts.set(pairs[i]!.toString(), pairs[i + 1]!);
  const [field, old, next, actor] = ['field', 'old', 'new', 'actor'].map((name) => parts.get(name) ?? null);
  return toEntry(log, [id, field ?? null, old ?? null, next ?? null, actor ?? null], options);
}

/** @throws NotAnAuditLogError for an entry that this library did not write */
export function readListEntry<E extends Encoding>(
  log: string,
  raw: unknown,
  options: EncodingOptions<E>,
): AuditEntry<Decoded<E>> {
  const parts = readNetstrings(raw as Buffer);
  if (parts?.length !== 5) throw new NotAnAuditLogError(log);
  return toEntry(log, parts, options);
}

function toEntry<E extends Encoding>(
  log: string,
  parts: readonly (Buffer | null)[],
  options: EncodingOptions<E>,
): AuditEntry<Decoded<E>> {
  const [id, field, old, next, actor] = parts;
  const [, milliseconds] = /^(\d+)-\d+$/.exec(id?.toString() ?? '') ?? [];
  // Without either value it would be no change.
  if (milliseconds === undefined || !id || !field || !(old || next)) throw new NotAnAuditLogError(log);
  const value = (bytes: Buffer | null | undefined): Decoded<E> | null =>
    bytes ? decoded(bytes, options, { key: log, outcome: 'not-applied' }) : null;
  return {
    id: id.toString(),
    time: new Date(Number(milliseconds)),
    field: field.toString(),
    old: value(old),
    new: value(next),
    actor: actor ? actor.toString() : null,
  };
}

/** A page of a log. `V` is a string, or with `encoding: 'buffer'` a Buffer. */
export interface AuditHistory<V extends string | Buffer = string> {
  /** Newest first. */
  readonly entries: readonly AuditEntry<V>[];
  /** The `before` of the next, older page; null if there is none. */
  readonly next: string | null;
}
