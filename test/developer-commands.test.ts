/** Every command for developers says what it takes, and refuses what it does not, in one line. */

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'

const root = join(import.meta.dirname, '..')

/** With a value that one of its options does not take. */
const commands: Readonly<Record<string, readonly string[]>> = {
  'bench/boot.ts': ['--only', 'nothing'],
  'bench/channel.ts': ['--messages', '0'],
  'bench/engine/run.ts': ['--rounds', '0'],
  'bench/latency.ts': ['--settle', '-1'],
  'bench/papers/run.ts': ['--only', 'epoch,nothing'],
  'bench/protected.ts': ['--seconds', 'long'],
  'scripts/boot.ts': ['--dir', '.', '--translation', 'on'],
  'scripts/sim.ts': ['--trace', '--crash', '1,nobody,process'],
  'scripts/test.ts': ['--only', 'nothing'],
  'test/clients/run.ts': ['--kills', '1.5'],
  'test/determinism/campaign.ts': ['--rounds', '0'],
  'test/determinism/variants.ts': ['--at-once', '0'],
  'test/faults/run.ts': ['--kills', '1', '--backups', '5'],
  'test/isa/campaign.ts': ['--seconds', '-1'],
  'test/mutations/run.ts': ['--word'],
  'test/regions/campaign.ts': ['--regions', 'all'],
  'test/system/clock-campaign.ts': ['--minutes', '0'],
}

function run(words: readonly string[]): Promise<{ code: number | string; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, words, { cwd: root, timeout: 20_000 }, (error, stdout, stderr) => {
      resolve({ code: error?.code ?? 0, stdout, stderr })
    })
  })
}

for (const [file, wrong] of Object.entries(commands)) {
  test(`${file} says what it takes, and refuses what it does not in one line`, async () => {
    const help = await run([file, '--help'])
    assert.deepEqual([help.code, help.stderr], [0, ''])
    assert.match(help.stdout, /^Usage: (npm run|node) .*\[options\]/)
    for (const words of [['--strange'], wrong]) {
      const { code, stdout, stderr } = await run([file, ...words])
      assert.deepEqual([code, stdout], [2, ''], stderr)
      assert.match(stderr, /^error: .* \(see --help\)\n$/, 'one line')
    }
  })
}

test('the simulator refuses a crash that it would not carry out, and fault trials a command without a number of them', async () => {
  for (const words of [
    ['scripts/sim.ts', '--crash', '1,primary,host'],
    ['test/faults/run.ts'],
    ['test/faults/run.ts', '--kills', '1', '--successive', '1'],
    ['test/faults/run.ts', '--kills', '1', '--backups', '2', '--kind', 'arbiter-answer-lost'],
  ]) {
    const { code, stderr } = await run(words)
    assert.equal(code, 2, words.join(' '))
    assert.match(stderr, /^error: .*\n$/)
  }
})
