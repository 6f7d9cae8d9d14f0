/**
 * What an operator does with one protected VM, through one failover: two consoles, logs, status --watch, metrics and
 * readiness. One boot.
 */

import assert from 'node:assert/strict'
import { appendFileSync } from 'node:fs'
import { test } from 'node:test'
import { freePort, writeRedisVm } from '../../src/host/redis-vm.ts'
import { VmFolder } from '../../src/host/vm-folder.ts'
import { launcher, understudy } from '../support/launcher.ts'
import { ownFolder } from '../support/own-folder.ts'
import { ConsoleProcess } from './console-process.ts'

const folder = ownFolder('operations')

const countTo = 3000

test('an operator sees a VM through a failover: consoles, logs, status, metrics', async (context) => {
  const name = `operations-${process.pid}`
  const metricsPort = await freePort()
  const vm = await writeRedisVm(folder, name, await freePort())
  appendFileSync(vm, `\n[metrics]\nlisten = "127.0.0.1:${metricsPort}"\n`)
  const door = async (path: string): Promise<{ code: number; text: string }> => {
    const response = await fetch(`http://127.0.0.1:${metricsPort}${path}`)
    return { code: response.status, text: await response.text() }
  }
  const started: ConsoleProcess[] = []
  const start = (...args: string[]): ConsoleProcess => {
    const process = new ConsoleProcess(launcher, args)
    started.push(process)
    return process
  }
  try {
    understudy('up', vm)
    const watch = start('status', '--watch', vm)
    await watch.shows(/: protected; a primary in generation \d+; b backup/)
    const writer = start('console', vm)
    await writer.shows(/GUEST-READY/)
    writer.type('echo $((6*7))-typed')
    await writer.shows(/42-typed\r\n/)
    const viewer = start('console', '--watch', vm)
    await viewer.shows(/GUEST-READY.*42-typed\r\n/s)
    viewer.type('echo not-by-a-viewer')

    assert.deepEqual(await door('/readyz'), { code: 200, text: 'protected\n' })
    const before = (await door('/metrics')).text
    assert.ok(before.includes(`understudy_protected{vm="${name}"} 1\n`), before)
    assert.match(before, /understudy_log_bytes_total\{vm="[^"]+",replica="a",cause="disk"\} [1-9]/)
    assert.match(before, /understudy_net_frames_total\{vm="[^"]+",dir="out"\} \d/)

    writer.type(`i=0; while [ $i -lt ${countTo} ]; do i=$((i+1)); echo line $i; done`)
    await writer.shows(/line 1\r\n/)
    understudy('fail', 'primary', vm)
    const expected = Array.from({ length: countTo }, (_, index) => `line ${index + 1}\r\n`)
    const [seenByWriter] = await writer.shows(new RegExp(`line 2\\r\\n.*line ${countTo}\\r\\n`, 's'))
    assert.deepEqual(seenByWriter.split(/(?<=\n)/), expected.slice(1))
    const [seenByViewer] = await viewer.shows(new RegExp(`line 1\\r\\n.*line ${countTo}\\r\\n`, 's'))
    assert.deepEqual(seenByViewer.split(/(?<=\n)/), expected)
    writer.type('echo $((8*8))-after')
    await viewer.shows(/64-after\r\n/)

    await watch.shows(/: not protected; b primary in generation \d+, after a failover/)
    assert.deepEqual(await door('/readyz'), { code: 503, text: 'not protected\n' })
    const behind = (await door('/metrics')).text
    assert.match(behind, /understudy_failovers_total\{vm="[^"]+",replica="b"\} 1\n/)
    assert.match(understudy('logs', vm), /^b {4}\d{4}-\d\d-\d\dT\S+Z live in generation \d+/m)
    const consoleLog = understudy('logs', '--replica', 'console', '-n', '50', vm)
    assert.match(consoleLog, /64-after/)
    assert.doesNotMatch(consoleLog, /not-by-a-viewer/)

    writer.type('poweroff')
    assert.equal(await viewer.ended(), 0)
    assert.equal(await writer.ended(), 0)
    await watch.shows(/: not running\n/)
    assert.equal(new VmFolder(name).readRun(), undefined)
    await assert.rejects(door('/readyz'), 'the monitor ends with its VM')
    context.diagnostic(`${((performance.now() - watch.startedAt) / 1000).toFixed(0)} s from protected to off`)
  } finally {
    for (const process of started) await process.end()
  }
})
