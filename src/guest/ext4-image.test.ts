import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { MiB } from '../base/units.ts'
import { writeExt4 } from './ext4-image.ts'
import { FileTree } from './file-tree.ts'
import { ensureHostTool } from './host-tools.ts'

let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'understudy-ext4-'))
})

afterEach(() => rmSync(folder, { recursive: true }))

async function write(name: string, fill: (tree: FileTree) => void, sizeBytes = 16 * MiB): Promise<string> {
  const tool = (tool: 'mke2fs' | 'debugfs' | 'e2fsck') =>
    ensureHostTool(tool, join(folder, 'no-cache'), () => {}, { offline: true })
  const place = join(folder, name)
  mkdirSync(place)
  const tree = new FileTree(join(place, 'spool'))
  fill(tree)
  const tools = { mke2fs: await tool('mke2fs'), debugfs: await tool('debugfs'), e2fsck: await tool('e2fsck') }
  await writeExt4(join(place, 'image'), tree, sizeBytes, tools)
  return join(place, 'image')
}

async function debugfs(image: string, command: string): Promise<string> {
  const program = await ensureHostTool('debugfs', join(folder, 'no-cache'))
  return execFileSync(program, ['-R', command, image], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
}

test('contents, modes, owners and links are on the disk as they are in the tree', async () => {
  const image = await write('a', (tree) => {
    tree.addFile('bin/su', 'program', 0o4755)
    tree.addFile('etc/secret', 'hidden', 0o640, { userId: 990, groupId: 42 })
    tree.addFolder('tmp', 0o1777)
    tree.addSymlink('bin/sh', 'su')
    tree.addSymlink('far', `/${'long/'.repeat(30)}`)
  })
  assert.equal(await debugfs(image, 'cat /bin/su'), 'program')
  assert.match(await debugfs(image, 'stat /bin/su'), /Mode: +04755[\s\S]*User: +0 +Group: +0/)
  assert.match(await debugfs(image, 'stat /etc/secret'), /Mode: +0640[\s\S]*User: +990 +Group: +42/)
  assert.match(await debugfs(image, 'stat /tmp'), /Type: directory +Mode: +01777/)
  assert.match(await debugfs(image, 'stat /bin/sh'), /Fast link dest: "su"/)
  assert.equal(await debugfs(image, 'cat /far'), `/${'long/'.repeat(30)}`)
})

test('names with blanks, quotes, backslashes and umlauts survive', async () => {
  const names = ['a b', 'say "hi"', 'system\\x2dgetty', 'Főtanúsítvány', '#hash', "it's"]
  const image = await write('a', (tree) => {
    for (const name of names) tree.addFile(`d/${name}`, name)
  })
  for (const name of names) {
    assert.equal(await debugfs(image, `cat "/d/${name.replaceAll('"', '""')}"`), name)
  }
})

test('a folder of a thousand files is sound', async () => {
  const image = await write('a', (tree) => {
    for (let index = 0; index < 1000; index++) tree.addFile(`d/file-number-${index}`, String(index))
  })
  assert.equal(await debugfs(image, 'cat /d/file-number-999'), '999')
})

test('the order in which files were added has no influence on the bytes', async () => {
  const files = ['etc/a', 'usr/bin/b', 'usr/bin/c', 'z'] as const
  const first = await write('a', (tree) => {
    for (const path of files) tree.addFile(path, path)
  })
  const second = await write('b', (tree) => {
    for (const path of files.toReversed()) tree.addFile(path, path)
  })
  assert.deepEqual(readFileSync(first), readFileSync(second))
})

test('what does not fit is refused with the size that would', async () => {
  const fill = (tree: FileTree) => tree.addFile('big', new Uint8Array(15 * MiB).fill(1))
  await assert.rejects(write('a', fill), (error: Error) => {
    const needed = Number(/make it (\d+)M/.exec(error.message)?.[1])
    assert.ok(needed >= 20 && needed <= 128, error.message)
    return true
  })
  await write('b', fill, 64 * MiB)
})
