/** The monitor on a loopback port, asking replicas that are control sockets of this test. */

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { noBytesByCause } from '../log/entry.ts'
import { listenForControl } from './control.ts'
import { renderMetrics } from './metrics.ts'
import { startMonitor } from './monitor.ts'
import { noOutputDelays } from './output-delays.ts'
import type { ReplicaStatus } from './replica-status.ts'
import { VmFolder } from './vm-folder.ts'

const stateFolder = mkdtempSync(join(tmpdir(), 'understudy-monitor-'))
after(() => rmSync(stateFolder, { recursive: true, force: true }))

const primary: ReplicaStatus = {
  name: 'a',
  pid: 1,
  role: 'primary',
  state: 'protected',
  isProtected: true,
  isListed: false,
  transfer: undefined,
  copyPauseMs: undefined,
  reach: { disk: true, lan: false },
  generation: 3,
  discipline: { kind: 'exact' },
  instructions: 5_000_000,
  guestSeconds: 1.5,
  lagMs: 250,
  backups: [{ name: 'b', isListed: true, lagMs: 250 }],
  wantedBackups: 1,
  flow: { unacknowledgedBytes: 100, heldOutputs: 2, heldBytes: 3000, unconfirmedOutputs: 4, cpuPercent: 80 },
  logBytesByCause: { ...noBytesByCause(), frame: 77 },
  channelBytes: { sent: 1000, received: 20 },
  outputDelays: { ...noOutputDelays, total: { count: 5, medianMs: 0.064, p99Ms: 4 } },
  frameDelays: { count: 0, medianMs: 0, p99Ms: 0 },
  digestChecks: 0,
  divergences: 0,
  repeats: { console: 0, disk: 0 },
  failover: undefined,
  isOff: false,
  haltReason: undefined,
}
const backup: ReplicaStatus = {
  ...primary,
  name: 'b',
  role: 'backup',
  state: 'replaying',
  isProtected: false,
  instructions: 4_000_000,
  flow: undefined,
  digestChecks: 9,
}

const described = (status: ReplicaStatus) => ({ ...status, detail: '' })

interface Reply {
  readonly code: number
  readonly text: string
}

/** Over TCP (`HOST:PORT`) or a unix socket (a path). */
function get(address: string, path: string, method = 'GET'): Promise<Reply> {
  const [host, port] = address.split(':')
  const target = address.startsWith('/') ? { socketPath: address } : { host, port }
  return new Promise((resolve, reject) => {
    request({ ...target, path, method }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      response.on('end', () => resolve({ code: response.statusCode!, text }))
    })
      .on('error', reject)
      .end()
  })
}

test('/readyz is 200 only while the VM is protected', async () => {
  const folder = new VmFolder('ready', stateFolder)
  folder.create()
  const monitor = await startMonitor(folder, '127.0.0.1:0')
  assert.deepEqual(await get(monitor.address, '/readyz'), { code: 503, text: 'not running\n' })
  let status = primary
  const control = await listenForControl(folder.controlPath('a'), () => status)
  assert.deepEqual(await get(monitor.address, '/readyz'), { code: 200, text: 'protected\n' })
  status = { ...primary, state: 'alone', isProtected: false }
  assert.deepEqual(await get(monitor.address, '/readyz'), { code: 503, text: 'not protected\n' })
  control.close()
  monitor.close()
})

test('/metrics asks the replicas at each request; other paths and methods are refused', async () => {
  const folder = new VmFolder('scraped', stateFolder)
  folder.create()
  const path = join(stateFolder, 'metrics.socket')
  const monitor = await startMonitor(folder, `unix:${path}`)
  const controls = [
    await listenForControl(folder.controlPath('a'), () => primary),
    await listenForControl(folder.controlPath('b'), () => backup),
  ]
  const { code, text } = await get(path, '/metrics')
  assert.equal(code, 200)
  assert.match(text, /^understudy_protected\{vm="scraped"\} 1$/m)
  assert.equal((await get(path, '/')).code, 404)
  assert.equal((await get(path, '/metrics', 'POST')).code, 405)
  for (const control of controls) control.close()
  monitor.close()
})

test('an address in use is one line that names it', async () => {
  const folder = new VmFolder('twice', stateFolder)
  const first = await startMonitor(folder, '127.0.0.1:0')
  await assert.rejects(startMonitor(folder, first.address), {
    name: 'WorldError',
    message: /in use by another process/,
  })
  first.close()
})

test('metrics are in base units, and each family is announced once, before its samples', () => {
  const status = {
    name: 'shop',
    protection: 'protected',
    replicas: [described(primary), described(backup)],
    others: [],
  } as const
  const text = renderMetrics(status, undefined)
  for (const line of [
    'understudy_role{vm="shop",replica="a",role="primary"} 1',
    'understudy_role{vm="shop",replica="b",role="primary"} 0',
    'understudy_generation{vm="shop"} 3',
    'understudy_backups{vm="shop"} 1',
    'understudy_guest_instructions_total{vm="shop",replica="b"} 4000000',
    'understudy_lag_instructions{vm="shop"} 1000000',
    'understudy_lag_seconds{vm="shop"} 0.25',
    'understudy_log_bytes_total{vm="shop",replica="a",cause="frame"} 77',
    'understudy_log_unacked_bytes{vm="shop"} 100',
    'understudy_channel_bytes_total{vm="shop",replica="a",dir="sent"} 1000',
    'understudy_output_delay_seconds{vm="shop",cause="total",quantile="0.99"} 0.004',
    'understudy_cpu_ratio{vm="shop"} 0.8',
    'understudy_digest_checks_total{vm="shop",replica="b",result="match"} 9',
  ]) {
    assert.ok(text.split('\n').includes(line), `${line}\n${text}`)
  }
  const announced = new Set<string>()
  for (const line of text.trimEnd().split('\n')) {
    const [, family] = /^# TYPE (\S+) (?:gauge|counter)$/.exec(line) ?? []
    if (family !== undefined) {
      assert.ok(!announced.has(family), family)
      announced.add(family)
    } else if (!line.startsWith('# HELP ')) {
      const [, name] = /^([a-z_]+)\{[a-z_]+="[^"]*"(?:,[a-z_]+="[^"]*")*\} -?[\d.e+]+$/.exec(line) ?? []
      assert.ok(name !== undefined && name === [...announced].at(-1), line)
    }
  }
})

test('a failover shows as a counter and as its phases; without a backup there is no lag', () => {
  const failover = { detectedAt: 1000, arbitratedAt: 1020, replayedAt: 1100, firstOutputAt: 1150, cause: 'silent' }
  const survivor = { ...backup, role: 'primary', lagMs: undefined, failover } as const
  const text = renderMetrics(
    { name: 'shop', protection: 'not protected', replicas: [described(survivor)], others: [] },
    undefined,
  )
  assert.match(text, /^understudy_protected\{vm="shop"\} 0$/m)
  assert.match(text, /^understudy_failovers_total\{vm="shop",replica="b"\} 1$/m)
  assert.match(text, /^understudy_failover_seconds\{vm="shop",replica="b",phase="arbitration"\} 0\.02$/m)
  assert.match(text, /^understudy_failover_seconds\{vm="shop",replica="b",phase="replay"\} 0\.08$/m)
  assert.match(text, /^understudy_failover_seconds\{vm="shop",replica="b",phase="first_output"\} 0\.05$/m)
  assert.doesNotMatch(text, /lag_seconds|lag_instructions/)
})
