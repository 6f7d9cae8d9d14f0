/**
 * The foreign tools that the instruction-set tests compare with: GNU objdump and QEMU. They are
 * independent readings of the same specification; nothing of them ships.
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const objdumpTool = 'riscv64-unknown-elf-objdump'
export const qemuTool = 'qemu-riscv64'
export const qemuSystemTool = 'qemu-system-riscv64'

const debianPackages: Readonly<Record<string, string>> = {
  [objdumpTool]: 'binutils-riscv64-unknown-elf',
  [qemuTool]: 'qemu-user',
  [qemuSystemTool]: 'qemu-system-misc',
}

/**
 * Test options that skip, with the remedy, where a tool is missing. In CI nothing skips: there the missing tool fails
 * the test.
 */
export function needs(tool: string): { skip: string | false } {
  const isThere = spawnSync(tool, ['--version']).status === 0
  return { skip: isThere || process.env.CI ? false : `${tool} is missing: apt install ${debianPackages[tool]}` }
}

/** A folder for the files of one run, deleted when `use` returns. */
export function withTemporaryFolder<T>(use: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'understudy-isa-'))
  try {
    return use(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
