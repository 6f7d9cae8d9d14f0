/**
 * The guest's files before they become a disk: a tree of folders, files and symlinks with owners and modes.
 *
 * The idea: packages are laid over each other here, not in a folder of the host, so owners and modes are plain data (no
 * root needed), a symlink in one package cannot lead another out of the tree, and the result has one order, whatever
 * the host's file system. File contents are kept in numbered files of a spool folder, since a full Debian is large.
 *
 * It does not keep hard links (the second name becomes a copy), devices (the guest's /dev is the kernel's), or times.
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { assert, WorldError } from '../base/assert.ts'
import type { TarEntry } from './tar-reader.ts'

export interface FileOwner {
  readonly userId?: number
  readonly groupId?: number
}

interface NodeCommon {
  readonly userId: number
  readonly groupId: number
  readonly mode: number
}

export interface FileNode extends NodeCommon {
  readonly kind: 'file'
  /** The spool file with the content. */
  readonly source: string
  readonly sizeBytes: number
}

export interface FolderNode extends NodeCommon {
  readonly kind: 'folder'
}

export interface SymlinkNode extends NodeCommon {
  readonly kind: 'symlink'
  readonly target: string
}

export type TreeNode = FileNode | FolderNode | SymlinkNode

/** Symlinks that lead to each other end here, as in Linux. */
const maxSymlinks = 40

export class FileTree {
  readonly #nodes = new Map<string, TreeNode>()
  readonly #spoolFolder: string
  #spooled = 0

  constructor(spoolFolder: string) {
    this.#spoolFolder = spoolFolder
    mkdirSync(spoolFolder, { recursive: true })
  }

  /** Paths and nodes by path, bytewise: a folder stands before what is in it. */
  entries(): [string, TreeNode][] {
    return [...this.#nodes].sort(([a], [b]) => (a < b ? -1 : 1))
  }

  /** Bytes of the files, each rounded up to blocks. */
  contentBytes(blockBytes: number): number {
    let total = 0
    for (const node of this.#nodes.values()) {
      total += node.kind === 'file' ? Math.ceil(node.sizeBytes / blockBytes) * blockBytes : 0
      total += node.kind === 'folder' ? blockBytes : 0
    }
    return total
  }

  /** The node at a path; symlinks on the way are followed, a symlink at its end is not. */
  get(path: string): TreeNode | undefined {
    return this.#nodes.get(this.#place(path))
  }

  has(path: string): boolean {
    return this.get(path) !== undefined
  }

  /** Names inside a folder, sorted. */
  list(folder: string): string[] {
    const prefix = `${this.#place(folder)}/`
    const below = [...this.#nodes.keys()].filter((path) => path.startsWith(prefix))
    return below
      .map((path) => path.slice(prefix.length))
      .filter((name) => !name.includes('/'))
      .sort()
  }

  addFolder(path: string, mode = 0o755, owner: FileOwner = {}): void {
    const place = this.#place(path)
    if (place === '') return
    const present = this.#nodes.get(place)
    // A package's folder where another has a symlink to a folder: the symlink stays, as with dpkg.
    if (present?.kind === 'symlink') {
      this.addFolder(this.#follow(place, present.target, 0), mode, owner)
      return
    }
    if (present?.kind === 'file') throw new WorldError('packages-conflict', `/${place} is a file and a folder`)
    this.#addParents(place)
    this.#nodes.set(place, { kind: 'folder', mode, userId: owner.userId ?? 0, groupId: owner.groupId ?? 0 })
  }

  addFile(path: string, content: Uint8Array | string, mode = 0o644, owner: FileOwner = {}): void {
    const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content
    const source = join(this.#spoolFolder, String(this.#spooled++).padStart(6, '0'))
    writeFileSync(source, bytes, { flag: 'wx' })
    const { userId = 0, groupId = 0 } = owner
    this.#put(path, { kind: 'file', source, sizeBytes: bytes.length, mode, userId, groupId })
  }

  addSymlink(path: string, target: string): void {
    this.#put(path, { kind: 'symlink', target, mode: 0o777, userId: 0, groupId: 0 })
  }

  /** Lays one entry of a package over the tree. */
  addEntry(entry: TarEntry): void {
    const owner = { userId: entry.userId, groupId: entry.groupId }
    if (entry.kind === 'folder') this.addFolder(entry.path, entry.mode, owner)
    else if (entry.kind === 'file') this.addFile(entry.path, entry.content, entry.mode, owner)
    else if (entry.kind === 'symlink') this.addSymlink(entry.path, entry.target)
    else if (entry.kind === 'hardlink') {
      const shared = this.get(entry.target)
      if (shared?.kind !== 'file')
        throw new WorldError('package-damaged', `/${entry.path} links to /${entry.target}, which is no file`)
      this.#put(entry.path, shared)
    }
  }

  remove(path: string): void {
    const place = this.#place(path)
    this.#nodes.delete(place)
    for (const below of this.#nodes.keys()) if (below.startsWith(`${place}/`)) this.#nodes.delete(below)
  }

  #put(path: string, node: TreeNode): void {
    const place = this.#place(path)
    assert(place !== '', 'a file has a name')
    if (/[\n\0]/.test(place))
      throw new WorldError('package-damaged', `a file name holds a line break: ${JSON.stringify(place)}`)
    if (this.#nodes.get(place)?.kind === 'folder')
      throw new WorldError('packages-conflict', `/${place} is a folder and a file`)
    this.#addParents(place)
    this.#nodes.set(place, node)
  }

  #addParents(place: string): void {
    const slash = place.lastIndexOf('/')
    if (slash > 0 && !this.#nodes.has(place.slice(0, slash))) this.addFolder(place.slice(0, slash))
  }

  /** Where a path really is, once the symlinks among its folders are followed. */
  #place(path: string, depth = 0): string {
    let place = ''
    const parts = path.split('/').filter((part) => part !== '' && part !== '.')
    for (const [index, part] of parts.entries()) {
      if (part === '..') place = place.slice(0, Math.max(0, place.lastIndexOf('/')))
      else place = place === '' ? part : `${place}/${part}`
      const node = this.#nodes.get(place)
      if (index < parts.length - 1 && node?.kind === 'symlink') place = this.#follow(place, node.target, depth)
    }
    return place
  }

  #follow(place: string, target: string, depth: number): string {
    if (depth >= maxSymlinks) throw new WorldError('packages-conflict', `symlinks lead to each other at /${place}`)
    const base = target.startsWith('/') ? '' : place.slice(0, Math.max(0, place.lastIndexOf('/')))
    const next = this.#place(`${base}/${target}`, depth + 1)
    const node = this.#nodes.get(next)
    return node?.kind === 'symlink' ? this.#follow(next, node.target, depth + 1) : next
  }
}
