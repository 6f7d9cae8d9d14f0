/**
 * Runs a folder of bare test programs through `understudy run --elf`, one process each, and says how many report success:
 * `node test/isa/run-suite.ts FOLDER [PATTERN]`. For the public suites, which are not kept here: riscv-tests (built with
 * its own Makefile; programs report through `tohost`) or anything else that exits through HTIF or the sifive_test device.
 * PATTERN is a regular expression on file names.
 *
 * riscv-tests, RV64GC: 243 of 244 of rv64{ui,um,ua,uf,ud,uc,mi,si}, -p and -v. The one: rv64mi-p-pmpaddr tests rules of
 * physical memory protection and "assumes PMP is available"; this hart has no PMP entries (pmpaddr0 is read-only zero,
 * which the specification allows).
 */

import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readdirSync, readSync } from 'node:fs'
import { join } from 'node:path'

const command = join(import.meta.dirname, '../../bin/understudy')
const maxInstructions = 50_000_000
const timeoutMs = 60_000

function isElf(path: string): boolean {
  const magic = Buffer.alloc(4)
  const file = openSync(path, 'r')
  readSync(file, magic, 0, 4, 0)
  closeSync(file)
  return magic.toString('latin1') === '\x7fELF'
}

function main(folder: string | undefined, pattern = ''): void {
  if (folder === undefined) {
    console.error('usage: node test/isa/run-suite.ts FOLDER [PATTERN]')
    process.exitCode = 2
    return
  }
  const programs = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && new RegExp(pattern).test(entry.name))
    .map((entry) => entry.name)
    .filter((name) => isElf(join(folder, name)))
  let passed = 0
  for (const name of programs) {
    const flags = ['run', '--elf', join(folder, name), '--max-instructions', `${maxInstructions}`, '--json']
    const run = spawnSync(command, flags, { encoding: 'utf8', timeout: timeoutMs })
    if (run.status === 0) passed++
    else console.log(`${name}: exit ${run.status ?? run.signal}. ${run.stdout.trim()} ${run.stderr.trim()}`)
  }
  console.log(`${passed} of ${programs.length}`)
  if (passed !== programs.length) process.exitCode = 1
}

main(process.argv[2], process.argv[3])
