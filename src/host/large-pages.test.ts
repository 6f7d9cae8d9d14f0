/** The kernel's own account of a mapping says whether its pages are large. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { MiB } from '../base/units.ts'
import { adviseLargePages } from './large-pages.ts'

const settingPath = '/sys/kernel/mm/transparent_hugepage/enabled'

function hostGivesThem(): boolean {
  try {
    return !readFileSync(settingPath, 'utf8').includes('[never]')
  } catch {
    return false
  }
}

/** KiB of this process's memory that are in large pages. */
function largeKib(): number {
  return Number(/^AnonHugePages:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/smaps_rollup', 'utf8'))![1])
}

test('guest RAM that is touched after the advice is in large pages', (t) => {
  if (!hostGivesThem()) return t.skip(`this host gives no large pages (${settingPath})`)
  const memory = new WebAssembly.Memory({ initial: (64 * MiB) / 65_536 })
  // As an engine has it: not from the memory's beginning.
  const ram = new Uint8Array(memory.buffer, 65_536, 63 * MiB)
  const refused = adviseLargePages(ram)
  if (refused?.includes('koffi')) return t.skip(refused)
  assert.equal(refused, undefined)
  const before = largeKib()
  ram.fill(1)
  // Not each: the kernel may have none free in a piece.
  assert.ok(largeKib() - before >= 16 * 1024, `${largeKib() - before} KiB in large pages`)
})
