/**
 * Documents are checked like code: every relative link and every source path in them must exist, every heading that is
 * linked to, every test title that is quoted beside a link to its file, every script, every config key and every exit code.
 */

import assert from 'node:assert/strict'
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { ExitCode } from '../src/base/assert.ts'
import { diskServerSchema, hostSchema, replicaSchema, switchSchema } from '../src/host/host-config.ts'
import { vmSchema } from '../src/host/vm-config.ts'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const documents = ['README.md', 'CHANGELOG.md', ...globSync('docs/**/*.md', { cwd: root })].map((path) =>
  join(root, path),
)

/** GitHub's anchor of a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replace(/\s/g, '-')
}

function anchorsIn(path: string): string[] {
  return [...readFileSync(path, 'utf8').matchAll(/^#+ (.+)$/gm)].map((match) => anchorOf(match[1]!))
}

/** One line per thing in the document that is not there. */
function faultsOf(path: string, text: string): string[] {
  const faults: string[] = []
  for (const [, link] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
    const [file, anchor] = link!.split('#') as [string, string | undefined]
    if (/^[a-z]+:/.test(file)) continue
    const target = file === '' ? path : resolve(dirname(path), file)
    if (!existsSync(target)) faults.push(`link to ${link}`)
    else if (anchor !== undefined && !anchorsIn(target).includes(anchor)) faults.push(`heading ${link}`)
  }
  for (const [, named] of text.matchAll(/`((?:src|test|scripts|docs|bin|bench)\/[\w./-]*\w\/?)[`\s]/g)) {
    if (!existsSync(join(root, named!))) faults.push(`path ${named}`)
  }
  for (const [, link, title] of text.matchAll(/\]\(([^)\s]+\.(?:test|system)\.ts)\)\s+“([^”]+)”/g)) {
    const target = resolve(dirname(path), link!)
    if (existsSync(target) && !readFileSync(target, 'utf8').includes(title!)) {
      faults.push(`test “${title}” in ${relative(root, target)}`)
    }
  }
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: object }
  for (const [, script] of text.matchAll(/\bnpm run (?:--silent )?([\w:-]*[\w])/g)) {
    if (!Object.hasOwn(scripts, script!)) faults.push(`npm script ${script}`)
  }
  return faults
}

test('every link, path, heading, test title and npm script that a document names is there', () => {
  const faults = documents.flatMap((path) =>
    faultsOf(path, readFileSync(path, 'utf8')).map((fault) => `${relative(root, path)}: ${fault}`),
  )
  assert.deepEqual(faults, [])
})

test('a link, path, heading, test title or npm script that is not there is a fault', () => {
  const readme = join(root, 'README.md')
  for (const text of [
    '[a](docs/NOWHERE.md)',
    '[a](docs/PROTOCOL.md#no-such-heading)',
    '[a](#no-such-heading)',
    'see `src/machine/no-such-file.ts`',
    '[a](src/replication/primary.test.ts) “no such test”',
    '`npm run nothing`',
  ]) {
    assert.equal(faultsOf(readme, text).length, 1, text)
  }
  assert.deepEqual(faultsOf(readme, '[a](docs/PROTOCOL.md#roles) [b](https://nowhere.invalid/x) `src/base/`'), [])
})

const operations = readFileSync(join(root, 'docs/OPERATIONS.md'), 'utf8')

function rowsBetween(heading: string, end: string): string[] {
  const start = operations.indexOf(heading)
  assert.ok(start >= 0, heading)
  const section = operations.slice(start, operations.indexOf(end, start + heading.length))
  return [...section.matchAll(/^\| `?([^`|\s]+)`? \|/gm)].map((match) => match[1]!)
}

test('the manual has every config key, and no other', () => {
  const { disks, network, protection, metrics, ...simple } = vmSchema.shape
  const nested = {
    disks: disks.unwrap().element.shape,
    network: network.unwrap().shape,
    protection: protection.unwrap().shape,
    metrics: metrics.unwrap().shape,
  }
  const keys = [
    ...Object.keys(simple),
    ...Object.entries(nested).flatMap(([section, shape]) => Object.keys(shape).map((key) => `${section}.${key}`)),
  ]
  const documented = rowsBetween('## The VM file', '\n## ').filter((key) => key !== 'key' && !/^-+$/.test(key))
  assert.deepEqual(documented.sort(), keys.sort())
})

test('the manual has every exit code', () => {
  const documented = rowsBetween('### Exit codes', '\n## ')
  for (const code of Object.values(ExitCode)) assert.ok(documented.includes(String(code)), `exit code ${code}`)
})

test("the manual's example files are the very files that the tests run", () => {
  const shown = [...operations.matchAll(/^```toml\n(# (examples\/\S+\.toml)[\s\S]*?)^```$/gm)]
  for (const [, text, path] of shown) assert.equal(text, readFileSync(join(root, path!), 'utf8'), `${path}`)
  const files = readdirSync(join(root, 'examples/two-hosts')).map((file) => `examples/two-hosts/${file}`)
  assert.deepEqual(shown.map(([, , path]) => path!).sort(), files.sort())
})

test('the manual has every key of the files of hosts', () => {
  const { channel, disk, network, ...simple } = replicaSchema.shape
  const nested = { channel: channel.shape, disk: disk.shape, network: network.unwrap().shape }
  const keys = [
    ...[simple, diskServerSchema.shape, switchSchema.shape].flatMap((shape) => Object.keys(shape)),
    ...Object.entries(nested).flatMap(([section, shape]) => Object.keys(shape).map((key) => `${section}.${key}`)),
  ]
  const section = operations.slice(operations.indexOf('## Two hosts'), operations.indexOf('## Spare hosts'))
  const rows = [...section.matchAll(/^\| (`.+?) \|/gm)].map(([, cell]) => cell!)
  const documented = rows.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, key]) => key!))
  assert.deepEqual(documented.filter((key) => key !== 'key' || keys.includes(key)).sort(), [...new Set(keys)].sort())
})

test('the manual has every key of the file of a host that offers itself', () => {
  const section = operations.slice(operations.indexOf('| key of `host.toml`'), operations.indexOf('## Commands'))
  const documented = [...section.matchAll(/^\| `(\w+)` \|/gm)].map(([, key]) => key!)
  assert.deepEqual(documented.sort(), Object.keys(hostSchema.shape).sort())
})
