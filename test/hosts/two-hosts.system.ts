/**
 * Two hosts, and a third one for disk and switch, from the very files that docs/OPERATIONS.md shows. The hosts are network
 * namespaces; nothing is shared between them but the wire.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { copyRootDisk } from '../../src/guest/guest-builder.ts'
import type { LoadReport } from '../../src/host/redis-load.ts'
import { type ReadyGuest, readyGuest } from '../../src/host/redis-vm.ts'
import { becomesTrue } from '../support/becomes-true.ts'
import { ownNetwork, whyNoTap } from '../support/own-network.ts'
import { type EmulatedHost, emulateHosts } from './emulated-hosts.ts'
import type { HostProcess } from './host-process.ts'

const examples = fileURLToPath(new URL('../../examples/', import.meta.url))
const clientFile = fileURLToPath(new URL('increment-client.ts', import.meta.url))
const strangerFile = fileURLToPath(new URL('stranger.ts', import.meta.url))
const redisPort = '6379'
const addresses = { a: '192.0.2.1', b: '192.0.2.2', c: '192.0.2.3', client: '192.0.2.9' }
const guestAddress = '192.0.2.10'
const hasPing = spawnSync('ping', ['-V']).error === undefined
const guestFolder = process.env.UNDERSTUDY_TEST_GUEST

/** Exactly these files of an example come to a host, and nothing else: what is missing must come over the wire. */
function bring(host: EmulatedHost, example: string, files: readonly string[], key: string): void {
  for (const file of files) copyFileSync(join(examples, example, file), join(host.folder, file))
  copyFileSync(key, join(host.folder, 'shop.key'))
  host.sh('chmod 600 shop.key && mkdir guest')
}

async function furnish(
  { a, b, c }: Readonly<Record<'a' | 'b' | 'c', EmulatedHost>>,
  example: string,
  guest: ReadyGuest,
): Promise<void> {
  assert.equal(await a.understudy('keygen', 'new.key').exitCode, 0)
  const key = join(a.folder, 'new.key')
  bring(a, example, ['shop.toml', 'replica-a.toml'], key)
  bring(b, example, ['replica-b.toml'], key)
  const isSwitched = existsSync(join(examples, example, 'switch.toml'))
  bring(c, example, ['shop.toml', 'disk-server.toml', ...(isSwitched ? ['switch.toml'] : [])], key)
  copyFileSync(guest.kernelPath, join(a.folder, 'guest/Image'))
  copyFileSync(guest.initrdPath, join(a.folder, 'guest/initrd.cpio'))
  await copyRootDisk(guest, join(c.folder, 'guest/root.ext4'))
}

interface Pair {
  readonly a: HostProcess
  readonly b: HostProcess
  readonly around: readonly HostProcess[]
}

/** In the worst order: each host waits for the next one. */
async function startAll({ a, b, c }: Readonly<Record<'a' | 'b' | 'c', EmulatedHost>>): Promise<Pair> {
  const backup = b.understudy('replica', '--config', 'replica-b.toml')
  await backup.says(/waiting: .*arbiter/)
  const primary = a.understudy('replica', '--config', 'replica-a.toml')
  await primary.says(/waiting: /)
  const around = [c.understudy('disk-server', '--config', 'disk-server.toml')]
  if (existsSync(join(c.folder, 'switch.toml'))) around.push(c.understudy('switch', '--config', 'switch.toml'))
  await primary.says(/generation 2, backups: b/)
  return { a: primary, b: backup, around }
}

async function connectClient(host: EmulatedHost, target: string): Promise<HostProcess> {
  const client = host.start(process.execPath, clientFile, target, redisPort, 'two-hosts')
  await becomesTrue('the client is answered', () => client.hasEnded || countOf(client) > 50)
  assert.ok(!client.hasEnded, client.said)
  return client
}

function countOf(client: HostProcess): number {
  const last = client.said.trimEnd().split('\n').at(-1) ?? ''
  return last.startsWith('{') && last.endsWith('}') ? (JSON.parse(last) as LoadReport).acknowledged : 0
}

async function reportOf(client: HostProcess): Promise<LoadReport> {
  client.child.stdin!.write('report\n')
  assert.equal(await client.exitCode, 0, client.said)
  return JSON.parse(client.said.trimEnd().split('\n').at(-1)!) as LoadReport
}

async function goesOn(client: HostProcess): Promise<void> {
  const before = countOf(client)
  await becomesTrue('the client goes on', () => client.hasEnded || countOf(client) > before + 100)
  assert.ok(!client.hasEnded, client.said)
}

/** When pings were answered, in ms. */
function answersOf(ping: HostProcess): number[] {
  return [...ping.said.matchAll(/^\[(\d+\.\d+)\] .*icmp_seq=/gm)].map(([, seconds]) => Number(seconds) * 1000)
}

function longestGapMs(times: readonly number[]): number {
  return Math.round(Math.max(...times.slice(1).map((time, index) => time - times[index]!)))
}

/** The end of a command on a host: its exit code and what it said. */
async function tell(host: EmulatedHost, ...args: readonly string[]): Promise<string> {
  const command = host.understudy(...args)
  return `${await command.exitCode}: ${command.said}`
}

async function eachHostSaysWhatItHas({ a, b, c }: Readonly<Record<'a' | 'b' | 'c', EmulatedHost>>): Promise<void> {
  assert.match(
    await tell(a, 'status', '--check', 'replica-a.toml'),
    /^0: shop: protected\n {2}backup b is on another host\n {2}a {2}primary/,
  )
  assert.match(
    await tell(b, 'status', '--check', 'replica-b.toml'),
    /^0: shop: protected\n.*primary is not on this host\n {2}b {2}backup/,
  )
  assert.match(await tell(c, 'status', '--check', 'disk-server.toml'), /^6: .*\n {2}no replica on this host\n {2}disk/)
  assert.match(await tell(b, 'logs', 'replica-b.toml'), /^0: .*b {4}\S+ waiting: [\s\S]*the machine is here/)
  assert.match(await tell(b, 'fail', 'primary', 'replica-b.toml'), /^4: .*has no primary on this host/)
  assert.match(await tell(b, 'replica', '--config', 'replica-b.toml'), /^4: .*"b" of VM shop runs here already/)
}

/** With every file of the backup, but another key. */
async function strangerGetsNothing(stranger: EmulatedHost, { a }: Pair): Promise<void> {
  copyFileSync(join(examples, 'two-hosts', 'replica-b.toml'), join(stranger.folder, 'replica-b.toml'))
  assert.match(await tell(stranger, 'keygen', 'shop.key'), /^0: /)
  const said = await tell(stranger, 'replica', '--config', 'replica-b.toml')
  assert.match(said, /^77: .*the arbiter at 192\.0\.2\.3:7104 refuses our key/)
  const atChannel = stranger.start(process.execPath, strangerFile, addresses.a, '7101', 'shop.key')
  assert.equal(await atChannel.exitCode, 0)
  assert.match(atChannel.said, /^key-refused: the primary at .* refuses our key: it has another key/)
  assert.match(a.said, /turned away 192\.0\.2\.9: it has another key/)
}

const network = ownNetwork({ needsTap: false })
if (!network.isInside) {
  test('two hosts', { skip: network.skip }, async (t) => {
    await readyGuest({ guestFolder }, 'test-guest') // inside there is no mirror to fetch it from
    const report = await network.run(import.meta.filename)
    for (const [, figures] of report.matchAll(/^ℹ (stall.*|ping gap.*|no ping.*)$/gm)) t.diagnostic(figures!)
  })
} else {
  test('a whole host goes: the client of its machine goes on through the backup, which got the machine over the wire', async (t) => {
    const guest = await readyGuest({ guestFolder }, 'test-guest')
    await emulateHosts(addresses, async (hosts) => {
      const { a, b, client: clientHost } = hosts
      await furnish(hosts, 'two-hosts', guest)
      const pair = await startAll(hosts)
      assert.match(pair.b.said, /the machine is here, and has the digests that the primary named/)
      assert.deepEqual(b.sh('ls guest'), '', 'the backup has no file of the guest')
      const client = await connectClient(clientHost, addresses.c)
      await eachHostSaysWhatItHas(hosts)
      await strangerGetsNothing(clientHost, pair)

      a.setLink(false)
      await pair.b.says(/live in generation 3/)
      await goesOn(client)
      const report = await reportOf(client)
      assert.deepEqual([report.connectionsReset, report.skipped, report.wentBack], [0, 0, 0])
      t.diagnostic(`stall ${Math.round(report.longestStallMs)} ms, of which 2000 ms are the time-out`)

      a.setLink(true)
      assert.equal(await pair.a.exitCode, 7, 'the old primary learns that it lost')
      assert.match(pair.a.said, /halted: .*another replica holds the machine|held by replica b/)

      const down = b.understudy('down', 'replica-b.toml')
      assert.equal(await down.exitCode, 0, down.said)
      assert.equal(await pair.b.exitCode, 0, pair.b.said)
      for (const { child, exitCode } of pair.around) {
        child.kill('SIGTERM')
        assert.equal(await exitCode, 0)
      }
    })
  })

  const onRealNetwork =
    'on a real network: a kill of the primary moves the guest to the other host, with its address and its connections'
  test(onRealNetwork, { skip: whyNoTap() }, async (t) => {
    const guest = await readyGuest({ guestFolder }, 'test-guest')
    await emulateHosts(addresses, async (hosts) => {
      const { a, b, client: clientHost } = hosts
      a.addTap('tap0', addresses.a)
      b.addTap('tap0', addresses.b)
      await furnish(hosts, 'two-hosts-tap', guest)
      const pair = await startAll(hosts)
      const client = await connectClient(clientHost, guestAddress)
      const ping = hasPing && clientHost.start('ping', '-D', '-n', '-i', '0.01', guestAddress)
      if (ping) await ping.says(/icmp_seq=100 /)

      pair.a.child.kill('SIGKILL')
      await pair.b.says(/live in generation 3/)
      await goesOn(client)
      const report = await reportOf(client)
      assert.deepEqual([report.connectionsReset, report.skipped, report.wentBack], [0, 0, 0])
      t.diagnostic(`stall of the connection ${Math.round(report.longestStallMs)} ms`)
      if (ping) {
        const answered = answersOf(ping)
        await becomesTrue(
          'the guest answers pings on its new host',
          () => answersOf(ping).length > answered.length + 50,
        )
        ping.child.kill('SIGINT')
        await ping.exitCode
        t.diagnostic(`ping gap ${longestGapMs(answersOf(ping))} ms, at a ping every 10 ms`)
      } else t.diagnostic('no ping (package iputils-ping): its gap is not measured')

      assert.match(await tell(b, 'down', 'replica-b.toml'), /^0: /)
      assert.equal(await pair.b.exitCode, 0, pair.b.said)
    })
  })
}
