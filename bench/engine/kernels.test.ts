/** The kernels are also a differential test: whole optimized C programs, whose checksum QEMU has to confirm. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { findProgram } from '../../src/guest/command.ts'
import { runBareProgram } from '../../src/host/bare-program.ts'
import { bareOptions } from '../support/qemu-options.ts'
import { buildKernel, canCompile, compilerPackage, kernels } from './kernels.ts'

const skip = !canCompile()
  ? `needs the Debian package ${compilerPackage}`
  : !findProgram('qemu-system-riscv64') && 'needs the Debian package qemu-system-misc'

for (const kernel of kernels) {
  test(`the kernel ${kernel.name} comes to the same checksum here and on QEMU`, { skip }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'understudy-kernel-'))
    t.after(() => rmSync(folder, { recursive: true }))
    const path = await buildKernel({ ...kernel, rounds: 1 }, folder, 1)
    let text = ''
    const onConsole = (bytes: Uint8Array): void => void (text += new TextDecoder().decode(bytes))
    assert.equal(runBareProgram(path, { onConsole }).exit, 0)
    assert.match(text, /^@@begin\n@@end [0-9a-f]{16}\n$/)
    const qemu = spawnSync('qemu-system-riscv64', bareOptions(path), { encoding: 'latin1', timeout: 60_000 })
    assert.equal(qemu.stdout.replaceAll('\r', ''), text)
  })
}
