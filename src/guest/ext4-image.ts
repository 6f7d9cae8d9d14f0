/**
 * A file tree as an ext4 disk image, without root and with the same bytes every time.
 *
 * The idea: `mke2fs` lays out an empty file system with a fixed UUID, hash seed, feature list and time; `debugfs` then
 * writes the files by a script of ours. Owners and modes are numbers in that script, so nobody has to be root, and the
 * order of the script decides every inode and block number, so the host's own file system has no say. `e2fsck` has the
 * last word.
 *
 * It does not keep the packages' file times: everything carries one fixed time. See mke2fs(8), debugfs(8); the variable
 * E2FSPROGS_FAKE_TIME is libext2fs's own clock for tests.
 */

import { open, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ExitCode, WorldError } from '../base/assert.ts'
import { MiB } from '../base/units.ts'
import { type CommandResult, lastLine, runCommand } from './command.ts'
import type { FileTree, TreeNode } from './file-tree.ts'

export interface Ext4Tools {
  readonly mke2fs: string
  readonly debugfs: string
  readonly e2fsck: string
}

export const ext4BlockBytes = 4096

/** The one time of every file and of the file system: 2025-08-09, the day of Debian 13. */
const imageTimeS = 1_754_697_600

const uuid = '756e6465-7273-4475-9479-000000000001'
const hashSeed = '756e6465-7273-4475-9479-000000000002'
const features =
  'none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum'

/** Debian's defaults, said explicitly so that the host's own configuration has no say. */
const configuration = `[defaults]
	blocksize = ${ext4BlockBytes}
	inode_size = 256
	inode_ratio = 16384
[fs_types]
	ext4 = {
	}
	small = {
	}
	big = {
	}
`

function noRoom(neededBytes: number, sizeBytes: number): WorldError {
  const suggestion = Math.ceil((neededBytes * 1.4) / (64 * MiB)) * 64
  return new WorldError(
    'root-too-small',
    `the packages need ${Math.ceil(neededBytes / MiB)} MiB and the root disk has ${Math.floor(sizeBytes / MiB)} MiB: make it ${suggestion}M`,
    ExitCode.badConfiguration,
  )
}

function failed(tool: string, result: CommandResult): WorldError {
  const text = result.stderr || result.stdout
  if (/No space left/.test(text)) return new WorldError('no-space', 'no space left for the root disk image')
  return new WorldError('root-disk-failed', `${tool} cannot make the root disk: ${lastLine(text)}`)
}

const typeBits = { file: 0o100000, folder: 0o040000 } as const

/** debugfs splits at blanks and takes "…" as one word, a quote inside it doubled. */
function quoted(path: string): string {
  return `"${path.replaceAll('"', '""')}"`
}

function commandsFor(path: string, node: TreeNode): string[] {
  const name = quoted(`/${path}`)
  if (node.kind === 'symlink') return [`symlink ${name} ${quoted(node.target)}`]
  const commands = [node.kind === 'folder' ? `mkdir ${name}` : `write ${quoted(node.source)} ${name}`]
  const mode = typeBits[node.kind] | node.mode
  // A new folder has 0755 already; a new file has whatever mode its spool file has.
  if (node.kind === 'file' || node.mode !== 0o755) commands.push(`set_inode_field ${name} mode 0${mode.toString(8)}`)
  if (node.userId !== 0) commands.push(`set_inode_field ${name} uid ${node.userId}`)
  if (node.groupId !== 0) commands.push(`set_inode_field ${name} gid ${node.groupId}`)
  return commands
}

/** Writes `tree` as a new image of `sizeBytes` at `path`. Throws `root-too-small` when it does not fit. */
export async function writeExt4(
  path: string,
  tree: FileTree,
  sizeBytes: number,
  tools: Ext4Tools,
  signal?: AbortSignal,
): Promise<void> {
  const entries = tree.entries()
  const inodes = Math.max(Math.ceil(sizeBytes / 16384), Math.ceil(entries.length * 1.3) + 16)
  const journalMiB = sizeBytes >= 1024 * MiB ? 32 : sizeBytes >= 64 * MiB ? 8 : 4
  const neededBytes = tree.contentBytes(ext4BlockBytes) + inodes * 256 + journalMiB * MiB + 2 * MiB
  if (neededBytes > sizeBytes) throw noRoom(neededBytes, sizeBytes)

  const image = await open(path, 'wx')
  await image.truncate(sizeBytes).finally(() => image.close())
  const configurationPath = join(dirname(path), 'mke2fs.conf')
  await writeFile(configurationPath, configuration)
  const environment = {
    MKE2FS_CONFIG: configurationPath,
    E2FSPROGS_FAKE_TIME: String(imageTimeS),
    SOURCE_DATE_EPOCH: String(imageTimeS),
  }
  const layout = [
    '-b',
    String(ext4BlockBytes),
    '-I',
    '256',
    '-N',
    String(inodes),
    '-m',
    '0',
    '-J',
    `size=${journalMiB}`,
  ]
  const extended = `hash_seed=${hashSeed},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard`
  const identity = ['-L', 'root', '-U', uuid, '-O', features, '-E', extended]
  const made = await runCommand(tools.mke2fs, ['-q', '-F', '-t', 'ext4', ...layout, ...identity, path], {
    environment,
    signal,
  })
  if (made.exitCode !== 0) throw failed('mke2fs', made)

  const script = join(dirname(path), 'debugfs.script')
  await writeFile(script, `${entries.flatMap(([place, node]) => commandsFor(place, node)).join('\n')}\n`)
  const written = await runCommand(tools.debugfs, ['-w', '-f', script, path], { environment, signal })
  // debugfs goes on after a failed command and exits with 0: what it says beside its version is a failure.
  const complaints = written.stderr.split('\n').filter((line) => line !== '' && !/^debugfs \d/.test(line))
  if (complaints.some((line) => /Could not allocate|No free space|no space/i.test(line)))
    throw noRoom(neededBytes, sizeBytes)
  if (written.exitCode !== 0 || complaints.length > 0)
    throw failed('debugfs', { ...written, stderr: complaints[0] ?? '' })

  const checked = await runCommand(tools.e2fsck, ['-fn', path], { environment, signal })
  if (checked.exitCode !== 0) throw failed('e2fsck', { ...checked, stderr: checked.stdout })
}
