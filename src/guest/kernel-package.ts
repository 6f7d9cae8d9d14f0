/**
 * Debian's kernel, as its package brings it: the boot image, untouched, and the modules, untouched but for their signatures.
 *
 * The idea: `boot/vmlinux-*` of the riscv64 package is a raw Linux `Image`. Modules name what they need in their own
 * `.modinfo` section, so the order in which an initial RAM disk must load them is computed from the modules, not kept as
 * a list that the next kernel makes wrong.
 *
 * It does not run depmod and does not know aliases or soft dependencies. See Linux, Documentation/arch/riscv
 * /boot-image-header.rst (magic numbers), Documentation/admin-guide/module-signing.rst, modinfo(8).
 */

import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { assert, WorldError } from '../base/assert.ts'
import { concatBytes } from '../base/bytes.ts'
import { lastLine, streamCommand } from './command.ts'
import { readPackage } from './debian-package.ts'

export interface KernelPackage {
  /** `6.12.107+deb13-riscv64`. */
  readonly version: string
  readonly image: Uint8Array
  /** Compressed modules by name, underscores for hyphens. */
  readonly modules: ReadonlyMap<string, Uint8Array>
  /** Names of what is a module elsewhere and part of this image. */
  readonly builtIn: ReadonlySet<string>
}

/** The kernel treats `-` and `_` in module names alike. */
function moduleName(fileName: string): string {
  return fileName.replace(/\.ko(\.\w+)?$/, '').replaceAll('-', '_')
}

/** The raw RISC-V `Image` carries "RSC\x05" at offset 56. */
export function isRiscvImage(bytes: Uint8Array): boolean {
  return bytes[56] === 0x52 && bytes[57] === 0x53 && bytes[58] === 0x43 && bytes[59] === 0x05
}

export async function readKernelPackage(path: string, signal?: AbortSignal): Promise<KernelPackage> {
  let version: string | undefined
  let image: Uint8Array | undefined
  const modules = new Map<string, Uint8Array>()
  const builtIn = new Set<string>()
  for await (const entry of readPackage(path, signal)) {
    if (entry.kind !== 'file') continue
    const fileName = entry.path.slice(entry.path.lastIndexOf('/') + 1)
    if (entry.path.startsWith('boot/vmlinux-')) {
      version = fileName.slice('vmlinux-'.length)
      image = entry.content.slice()
    } else if (/\.ko(\.\w+)?$/.test(fileName)) {
      modules.set(moduleName(fileName), entry.content.slice())
    } else if (fileName === 'modules.builtin') {
      const lines = new TextDecoder().decode(entry.content).split('\n')
      for (const line of lines) if (line !== '') builtIn.add(moduleName(line.slice(line.lastIndexOf('/') + 1)))
    }
  }
  if (version === undefined || image === undefined || !isRiscvImage(image)) {
    throw new WorldError('kernel-unusable', "Debian's kernel package holds no raw RISC-V boot image")
  }
  return { version, image, modules, builtIn }
}

/** What a module needs, from `depends=a,b` in its `.modinfo` section. */
export function moduleDependencies(module: Uint8Array): string[] {
  const bytes = Buffer.from(module.buffer, module.byteOffset, module.byteLength)
  const key = '\0depends='
  const start = bytes.indexOf(key, 0, 'latin1')
  if (start < 0) return []
  const end = bytes.indexOf(0, start + key.length)
  const names = bytes.toString('latin1', start + key.length, end)
  return names === '' ? [] : names.split(',').map((name) => name.replaceAll('-', '_'))
}

const signatureMark = Buffer.from('~Module signature appended~\n', 'latin1')

/**
 * The module without its appended signature. Checking the signatures of the ramdisk's modules costs the guest 1.9 of the
 * 3.4 thousand million instructions until Redis answers, and here it proves nothing: the package that a module comes from
 * was verified on the host. The kernel notes that it holds unsigned modules (taint E).
 *
 *   module, signer, key id, signature | algorithm … (8 bytes)  signature's length (4 bytes, big-endian) | mark
 */
export function withoutSignature(module: Uint8Array): Uint8Array {
  const trailerBytes = signatureMark.length + 12
  const markAt = module.length - signatureMark.length
  if (module.length < trailerBytes || Buffer.compare(module.subarray(markAt), signatureMark) !== 0) return module
  const lengthBytes = new DataView(module.buffer, module.byteOffset + markAt - 4, 4).getUint32(0)
  const end = module.length - trailerBytes - lengthBytes
  if (end <= 0) throw new WorldError('kernel-unusable', 'a kernel module has a damaged signature')
  return module.subarray(0, end)
}

/** Undoes a module's compression. */
export type Decompress = (compressed: Uint8Array) => Promise<Uint8Array>

/** apt's own decompressor, present with every apt; xz itself often is not. */
export function aptHelper(): string | undefined {
  return ['/usr/lib/apt/apt-helper', '/usr/libexec/apt/apt-helper'].find((path) => existsSync(path))
}

/** Undoes xz with `program`, which is apt's helper or xz; `folder` takes the pieces on their way. */
export function xzDecompressor(folder: string, program: string, signal?: AbortSignal): Decompress {
  const parameters = program.endsWith('apt-helper') ? ['cat-file'] : ['-dc']
  let count = 0
  return async (compressed) => {
    const isXz = Buffer.from(compressed.subarray(0, 6)).toString('latin1') === '\xfd7zXZ\0'
    if (!isXz) return compressed
    const path = join(folder, `module-${count++}`)
    await writeFile(`${path}.xz`, compressed)
    const unusable = (stderr: string) =>
      new WorldError('package-damaged', `a kernel module cannot be unpacked: ${lastLine(stderr)}`)
    const chunks: Uint8Array[] = []
    for await (const chunk of streamCommand(program, [...parameters, `${path}.xz`], unusable, { signal }))
      chunks.push(chunk)
    return concatBytes(chunks)
  }
}

/**
 * The wanted modules with all that they need, each after its needs. A module that this kernel has built in is left out.
 */
export async function modulesInLoadOrder(
  kernel: KernelPackage,
  wanted: readonly string[],
  decompress: Decompress,
): Promise<[name: string, content: Uint8Array][]> {
  const ordered = new Map<string, Uint8Array>()
  const visit = async (name: string, path: readonly string[]): Promise<void> => {
    if (ordered.has(name) || kernel.builtIn.has(name)) return
    assert(!path.includes(name), `kernel modules need each other: ${[...path, name].join(' ')}`)
    const compressed = kernel.modules.get(name)
    if (compressed === undefined) {
      throw new WorldError('kernel-unusable', `Debian's kernel ${kernel.version} has no module "${name}"`)
    }
    const content = withoutSignature(await decompress(compressed))
    for (const needed of moduleDependencies(content)) await visit(needed, [...path, name])
    ordered.set(name, content)
  }
  for (const name of wanted) await visit(name.replaceAll('-', '_'), [])
  return [...ordered]
}
