/**
 * A protected guest on a real network: a bridge, the kernel's own TCP, a second TAP for a station that pings, all in a
 * network namespace of the test's own. One boot. Primary and backup share one host here, so they share one TAP.
 */

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { failReplica, pairStatus } from '../../src/host/local-pair.ts'
import { answersPing, IncrementLoad } from '../../src/host/redis-load.ts'
import { readyGuest, writeRedisVm } from '../../src/host/redis-vm.ts'
import { TapDevice } from '../../src/host/tap-device.ts'
import { VmFolder } from '../../src/host/vm-folder.ts'
import { parseIpv4, parseMac } from '../../src/lan/frame.ts'
import { becomesTrue } from '../support/becomes-true.ts'
import { EthernetPeer } from '../support/ethernet-peer.ts'
import { understudy } from '../support/launcher.ts'
import { ownFolder } from '../support/own-folder.ts'
import { ownNetwork, sh } from '../support/own-network.ts'

const guestAddress = '10.0.2.15'
const redisPort = 6379

/** Carries frames between the station and the bridge until the test ends. */
async function attach(peer: EthernetPeer, device: TapDevice, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    for (const frame of peer.takeFrames()) device.write(frame)
    for (let frame = device.read(); frame; frame = device.read()) peer.onFrame(frame)
    await sleep(5)
  }
  device.close()
}

const network = ownNetwork()
if (!network.isInside) {
  test('a guest on a TAP outlives its primary', { skip: network.skip }, async () => {
    await readyGuest({}, 'test-guest') // inside there is no mirror to fetch it from
    await network.run(import.meta.filename)
  })
} else {
  test('a guest on a TAP answers pings and TCP, and a kill of its primary ends no connection', async (t) => {
    const folder = ownFolder('tap')
    const name = `tap-${process.pid}`
    sh('ip link add br0 type bridge && ip address add 10.0.2.2/24 dev br0 && ip link set br0 up')
    for (const tap of ['tap0', 'tap1']) {
      sh(`ip tuntap add dev ${tap} mode tap && ip link set ${tap} master br0 up`)
    }
    const vm = await writeRedisVm(folder, name, 0)
    writeFileSync(vm, readFileSync(vm, 'utf8').replace(/^forward = .*$/m, 'tap = "tap0"'))
    let isOver = false
    const station = new EthernetPeer(parseMac('52:54:00:00:00:99'), parseIpv4('10.0.2.99'), parseIpv4(guestAddress))
    const carrying = attach(station, await TapDevice.attach('tap1'), () => isOver)
    try {
      understudy('up', vm)
      assert.equal(new VmFolder(name).requireRun().lanPid, 0, 'no switch and no gateway beside a TAP')
      await becomesTrue('Redis answers over the TAP', () => answersPing(redisPort, 2000, guestAddress))
      station.askForGuest()
      await becomesTrue('the guest answers ARP', () => station.knowsGuest)
      const pingsBefore = station.pongs
      for (let count = 0; count < 10; count++) station.ping(1400)
      await becomesTrue('the guest answers pings', () => station.pongs === pingsBefore + 10)

      const load = await IncrementLoad.start(redisPort, 'over-tap', guestAddress)
      await becomesTrue('the load runs', () => load.acknowledged > 50)
      load.startMeasuring()
      await failReplica(vm, 'primary')
      const before = load.acknowledged
      await becomesTrue('the load goes on', () => load.acknowledged > before + 50)
      const report = await load.stop(10_000)
      assert.deepEqual([report.connectionsReset, report.skipped, report.wentBack], [0, 0, 0])
      t.diagnostic(`stall ${Math.round(report.longestStallMs)} ms`)
      const { replicas } = await pairStatus(vm)
      assert.deepEqual(
        replicas.map(({ name: replica, role, divergences }) => [replica, role, divergences]),
        [['b', 'primary', 0]],
      )
      const pongs = station.pongs
      for (let count = 0; count < 10; count++) station.ping(1400)
      await becomesTrue('the guest answers pings on its new host', () => station.pongs === pongs + 10)
    } finally {
      isOver = true
      await carrying
    }
  })
}
