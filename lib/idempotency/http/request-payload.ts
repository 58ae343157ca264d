import { contentOf } from '../fingerprint.js';
import type { HttpRequest } from '../../http/http-request.js';

/**
 * Returns what tells one payload from another. The parsed body stands for the bytes: the order of
 * its keys and white space do not count.
 */
export function payloadOf(request: HttpRequest): unknown {
  const files = filesOf(request);
  const body = request.headers['content-type']?.startsWith('multipart/')
    ? formOf(request.body)
    : request.body;
  const payload = [request.method, request.originalUrl ?? request.url, body ?? null];
  return files.length > 0 ? [...payload, files] : payload;
}

/**
 * A file by the names that multer, express-fileupload, formidable and @fastify/multipart have for
 * it.
 */
interface UploadedFile {
  readonly fieldname?: unknown;
  readonly originalname?: unknown;
  readonly originalFilename?: unknown;
  readonly filename?: unknown;
  readonly name?: unknown;
  readonly size?: unknown;
  readonly buffer?: unknown;
  readonly data?: unknown;
  readonly _buf?: unknown;
}

/** Returns the uploaded files, from one file, a list, or lists by field name. */
function filesOf({ file, files }: HttpRequest): unknown[] {
  // Fastify's plugin has functions here.
  const uploaded: [field: string, file: unknown][] =
    typeof file === 'object' && file !== null ? [['', file]] : [];
  if (typeof files === 'object' && files !== null) {
    for (const [field, found] of Object.entries(files))
      for (const one of [found].flat()) uploaded.push([Array.isArray(files) ? '' : field, one]);
  }
  return uploaded.map(([field, one]) => {
    const { fieldname, originalname, originalFilename, name, size, buffer, data } = (one ??
      {}) as UploadedFile;
    return [
      fieldname ?? field,
      originalname ?? originalFilename ?? name ?? null,
      contentOf(buffer ?? data, size),
    ];
  });
}

/** A part of a form, as @fastify/multipart attaches it to the body: it holds all parts in turn. */
interface Part extends UploadedFile {
  readonly type?: unknown;
  readonly mimetype?: unknown;
  readonly value?: unknown;
  readonly file?: { readonly bytesRead?: unknown };
  readonly fields?: unknown;
}

/** A form by the values of its fields and the content of its files. */
function formOf(body: unknown): unknown {
  if (typeof body !== 'object' || body === null) return body;
  const isPart = (value: unknown): value is Part =>
    typeof value === 'object' && value !== null && (value as Part).fields === body;
  const read = (value: unknown): unknown => {
    if (!isPart(value)) return value;
    const { type, filename, mimetype, _buf, file } = value;
    return type === 'file'
      ? ['file', filename, mimetype, contentOf(_buf, file?.bytesRead)]
      : ['field', value.value];
  };
  const fields = Object.entries(body);
  if (!fields.some(([, value]) => isPart(Array.isArray(value) ? value[0] : value))) return body;
  return fields.map(([name, value]) => [name, Array.isArray(value) ? value.map(read) : read(value)]);
}
