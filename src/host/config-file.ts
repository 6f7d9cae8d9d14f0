/**
 * Configuration files: TOML (or JSON, if the name ends so), checked by a schema that also gives the defaults and is
 * published as JSON Schema. An error is one line: the file, the line, the key, and what to write instead.
 */

import { dirname, isAbsolute, resolve } from 'node:path'
import { parse as parseToml, TomlError } from 'smol-toml'
import { z } from 'zod'
import { ExitCode, WorldError } from '../base/assert.ts'

function badConfiguration(message: string): WorldError {
  return new WorldError('bad-configuration', message, ExitCode.badConfiguration)
}

/** @throws WorldError `bad-configuration`, with the line of a syntax error */
export function parseConfigText(text: string, path: string): unknown {
  try {
    return path.endsWith('.json') ? JSON.parse(text) : parseToml(text)
  } catch (error) {
    if (error instanceof TomlError) throw badConfiguration(`${path}:${error.line}: ${error.message.split('\n')[0]}`)
    throw badConfiguration(`${path}: ${(error as Error).message}`)
  }
}

/**
 * Checks the text of a configuration file.
 * @throws WorldError `bad-configuration`: one line with file, line, key and the fix
 */
export function parseConfigFile<Schema extends z.ZodType>(
  schema: Schema,
  text: string,
  path: string,
): z.output<Schema> {
  const result = schema.safeParse(parseConfigText(text, path))
  if (result.success) return result.data
  // A misspelt key comes first: it explains why another one is missing.
  const { issues } = result.error
  const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0]!
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys[0] : undefined
  const keyPath = unknown === undefined ? issue.path : [...issue.path, unknown]
  const line = lineOf(text, keyPath)
  const place = line === undefined ? path : `${path}:${line}`
  const fix =
    unknown === undefined ? issue.message : `no such key; known here: ${knownKeys(schema, issue.path).join(', ')}`
  throw badConfiguration(`${place}: ${keyPath.join('.') || 'file'}: ${fix}`)
}

/** For a schema's `transform`: a failure of `parse` is the file's, with its sentence. */
export function convert<T>(parse: () => T, context: z.RefinementCtx): T {
  try {
    return parse()
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message })
    return z.NEVER
  }
}

/** Paths in a configuration file are relative to it. */
export function resolveBeside(configPath: string, path: string): string {
  return isAbsolute(path) ? path : resolve(dirname(resolve(configPath)), path)
}

/** The line of a key in TOML or JSON text: the last element of `path` that can be found in it. */
function lineOf(text: string, path: readonly PropertyKey[]): number | undefined {
  const lines = text.split('\n')
  for (const key of [...path].reverse()) {
    if (typeof key !== 'string') continue
    const pattern = new RegExp(`(^|[\\s[{,."])${key.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}["\\s]*[=:\\]]`)
    const line = lines.findIndex((content) => pattern.test(content))
    if (line >= 0) return line + 1
  }
  return undefined
}

interface SchemaNode {
  readonly def?: { readonly innerType?: SchemaNode; readonly element?: SchemaNode }
  readonly shape?: Readonly<Record<string, SchemaNode>>
}

/** The keys of the object at `path` in a schema: behind optional values, defaults and arrays. */
function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let node: SchemaNode | undefined = unwrap(schema as unknown as SchemaNode)
  for (const key of path) if (typeof key === 'string') node = unwrap(node?.shape?.[key])
  return Object.keys(node?.shape ?? {})
}

function unwrap(node: SchemaNode | undefined): SchemaNode | undefined {
  let inner = node
  while (inner && !inner.shape) inner = inner.def?.innerType ?? inner.def?.element
  return inner
}
