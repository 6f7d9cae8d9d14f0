/**
 * The layer rule of docs/ARCHITECTURE.md, as a check: arrows point down only, and the core layers know no clock, no
 * randomness, no promise and no Node. `checkLayers(root)` returns one line per violation; the tests prove it can fail.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Which layers each layer may import, beside itself. */
export const layers: Readonly<Record<string, readonly string[]>> = {
  base: [],
  riscv: ['base'],
  engine: ['base', 'riscv'],
  machine: ['base', 'riscv', 'engine'],
  log: ['base', 'machine'],
  hypervisor: ['base', 'machine', 'log'],
  replication: ['base', 'log'],
  net: ['base'],
  disk: ['base', 'net'],
  etcd: ['base', 'net', 'disk'],
  lan: ['base', 'net'],
  guest: ['base'],
  replica: ['base', 'machine', 'log', 'hypervisor', 'replication', 'disk'],
  sim: ['base', 'riscv', 'engine', 'machine', 'log', 'hypervisor', 'replication', 'replica', 'net', 'disk', 'lan'],
  host: [
    'base',
    'riscv',
    'engine',
    'machine',
    'log',
    'hypervisor',
    'replication',
    'replica',
    'net',
    'disk',
    'etcd',
    'lan',
    'guest',
  ],
  cli: ['base', 'net', 'host', 'guest'],
}

/** Layers whose code is deterministic: a pure function of its inputs. */
const pureLayers = new Set(['base', 'riscv', 'engine', 'machine', 'log', 'hypervisor', 'replication', 'replica', 'sim'])

/** Ambient time, randomness and asynchrony, as they would appear in source text. */
const ambient: readonly [RegExp, string][] = [
  [/\bDate\b\s*[.(]|\bnew Date\b/, 'a clock (Date)'],
  [/\bperformance\s*\./, 'a clock (performance)'],
  [/\bMath\.random\b/, 'randomness (Math.random)'],
  [/\bcrypto\s*\./, 'randomness (crypto)'],
  [/\bsetTimeout\b|\bsetInterval\b|\bsetImmediate\b|\bqueueMicrotask\b/, 'a timer'],
  [/\basync\s+function\b|\basync\s*\(|\bnew Promise\b|\bPromise\s*\./, 'a promise'],
  [/\bprocess\s*\./, 'Node (process)'],
  [/\bBuffer\s*\./, 'Node (Buffer)'],
]

function sourceFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return sourceFiles(path)
    return entry.name.endsWith('.ts') ? [path] : []
  })
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1')
}

/** One line per violation of the layer rule below `sourceRoot`; empty when all is well. */
export function checkLayers(sourceRoot: string): string[] {
  const violations: string[] = []
  for (const file of sourceFiles(sourceRoot)) {
    const path = relative(sourceRoot, file)
    const layer = path.split('/')[0]!
    const allowed = layers[layer]
    if (!allowed) {
      violations.push(`${path}: "${layer}" is no layer; add it to the table with what it may import`)
      continue
    }
    // Tests and what only tests use may look at every layer; what ships may not.
    if (file.endsWith('.test.ts') || path.includes('/test-support/') || file.includes('.test-support.')) continue
    const isPure = pureLayers.has(layer)
    const text = withoutComments(readFileSync(file, 'utf8'))
    for (const match of text.matchAll(/(?:from|import)\s*\(?\s*['"]([^'"]+)['"]/g)) {
      const specifier = match[1]!
      if (specifier.startsWith('.')) {
        const target = relative(sourceRoot, resolve(dirname(file), specifier)).split('/')[0]!
        if (target !== layer && !allowed.includes(target)) {
          violations.push(`${path}: ${layer}/ may not import ${target}/ (${specifier})`)
        }
      } else if (isPure && specifier.startsWith('node:')) {
        violations.push(`${path}: ${layer}/ is deterministic and may not import ${specifier}`)
      }
    }
    if (isPure) {
      for (const [pattern, name] of ambient) {
        if (pattern.test(text)) violations.push(`${path}: ${layer}/ is deterministic and may not use ${name}`)
      }
    }
  }
  return violations
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const violations = checkLayers(join(dirname(fileURLToPath(import.meta.url)), '../src'))
  for (const violation of violations) console.error(violation)
  console.error(violations.length === 0 ? 'layers: ok' : `layers: ${violations.length} violations`)
  process.exitCode = violations.length === 0 ? 0 : 1
}
