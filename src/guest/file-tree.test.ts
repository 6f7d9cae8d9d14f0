import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { FileTree } from './file-tree.ts'
import type { TarEntry } from './tar-reader.ts'

let folder: string
let tree: FileTree

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'understudy-tree-'))
  tree = new FileTree(join(folder, 'spool'))
})

afterEach(() => rmSync(folder, { recursive: true }))

const entry = (changes: Partial<TarEntry>): TarEntry => ({
  path: 'x',
  kind: 'file',
  mode: 0o644,
  userId: 0,
  groupId: 0,
  modifiedAtS: 0,
  target: '',
  content: new Uint8Array(0),
  ...changes,
})
const paths = () => tree.entries().map(([path]) => path)
const content = (path: string) => {
  const node = tree.get(path)
  assert.equal(node?.kind, 'file')
  return readFileSync(node.source, 'utf8')
}

test('a package that still uses /lib lands where /lib leads', () => {
  tree.addSymlink('lib', 'usr/lib')
  tree.addFolder('usr/lib')
  tree.addEntry(entry({ path: 'lib', kind: 'folder', mode: 0o755 }))
  tree.addEntry(entry({ path: 'lib/modules/a.conf', content: Buffer.from('a') }))
  assert.deepEqual(paths(), ['lib', 'usr', 'usr/lib', 'usr/lib/modules', 'usr/lib/modules/a.conf'])
  assert.equal(content('lib/modules/a.conf'), 'a')
})

test('no symlink and no .. leads out of the tree', () => {
  tree.addSymlink('escape', '/../../etc')
  tree.addEntry(entry({ path: 'escape/passwd', content: Buffer.from('p') }))
  tree.addEntry(entry({ path: '../../up', content: Buffer.from('u') }))
  assert.deepEqual(paths(), ['escape', 'etc', 'etc/passwd', 'up'])
})

test('symlinks that lead to each other are refused, not followed for ever', () => {
  tree.addSymlink('a', 'b')
  tree.addSymlink('b', 'a')
  assert.throws(() => tree.addFile('a/file', ''), { code: 'packages-conflict' })
})

test('a file where another package has a folder is refused, and the other way round', () => {
  tree.addFolder('etc')
  assert.throws(() => tree.addFile('etc', ''), { code: 'packages-conflict' })
  tree.addFile('file', '')
  assert.throws(() => tree.addFolder('file'), { code: 'packages-conflict' })
})

test('the later file wins, and a hard link is the same content under another name', () => {
  tree.addFile('a', 'old')
  tree.addFile('a', 'new', 0o755, { userId: 3 })
  tree.addEntry(entry({ path: 'b', kind: 'hardlink', target: 'a' }))
  assert.equal(content('b'), 'new')
  assert.deepEqual([tree.get('b')?.mode, tree.get('b')?.userId], [0o755, 3])
  assert.throws(() => tree.addEntry(entry({ path: 'c', kind: 'hardlink', target: 'nothing' })), {
    code: 'package-damaged',
  })
})

test('entries come in one order, each folder before what is in it', () => {
  for (const path of ['z/y/x', 'a-b/c', 'a/b', 'a.b']) tree.addFile(path, '')
  const order = paths()
  assert.deepEqual(order, [...order].sort())
  for (const path of order) {
    const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')))
    assert.ok(parent === '' || order.indexOf(parent) < order.indexOf(path), path)
  }
})

test('removing a folder removes what is in it and nothing beside it', () => {
  tree.addFile('var/run/x', '')
  tree.addFile('var/runner', '')
  tree.remove('var/run')
  assert.deepEqual(paths(), ['var', 'var/runner'])
  assert.deepEqual(tree.list('var'), ['runner'])
})
