import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { unreachable } from '../base/assert.ts'
import { Prng } from '../base/prng.ts'
import { type Delivery, EthernetSwitch, type SwitchLimits } from './ethernet-switch.ts'
import { broadcastMac, destinationOf, type Mac, macBytes, parseMac, sourceOf } from './frame.ts'

const vm = parseMac('52:54:00:00:00:01')
const otherVm = parseMac('52:54:00:00:00:02')
const alice = parseMac('02:00:00:00:00:0a')
const bob = parseMac('02:00:00:00:00:0b')
const multicast = 0x0100_5e00_0001 as Mac

function frame(source: Mac, destination: Mac, mark = 0): Uint8Array {
  const bytes = new Uint8Array(60)
  bytes.set(macBytes(destination), 0)
  bytes.set(macBytes(source), 6)
  bytes[14] = mark
  return bytes
}

function marks(deliveries: readonly Delivery[]): string[] {
  return deliveries.map((delivery) => {
    switch (delivery.kind) {
      case 'plain-frame':
        return `plain ${delivery.port} mark ${delivery.frame[14]}`
      case 'machine-frame':
        return `machine ${delivery.port} id ${delivery.frameId} mark ${delivery.frame[14]}`
      case 'confirmed':
        return `confirmed ${delivery.port} ${delivery.sequence}`
      case 'bound':
        return `bound ${delivery.port} sequence ${delivery.lastSequence} frame ${delivery.lastFrameId}`
      case 'refused':
        return `refused ${delivery.port} ${delivery.reason} ${delivery.generation}`
      case 'pause':
      case 'resume':
        return `${delivery.kind} ${delivery.port}`
      default:
        return unreachable(delivery)
    }
  })
}

function newSwitch(limits?: SwitchLimits): EthernetSwitch {
  return new EthernetSwitch(
    [
      { name: 'vm', mac: vm },
      { name: 'other', mac: otherVm },
    ],
    limits,
  )
}

function bindRequest(generation: bigint, coveredFrameId = 0n, logId = 1n) {
  return { generation, logId, mac: vm, coveredFrameId, receivedFrameId: coveredFrameId }
}

function machineStatistics(lanSwitch: EthernetSwitch) {
  const machine = lanSwitch.statistics().machines[0]
  assert.ok(machine)
  return machine
}

describe('the switch, for plain stations', () => {
  it('floods a frame to an unknown station to every port but its own', () => {
    const lanSwitch = newSwitch()
    const [a, b, c] = [lanSwitch.openPlainPort(), lanSwitch.openPlainPort(), lanSwitch.openPlainPort()]
    assert.deepEqual(marks(lanSwitch.onFrame(a, frame(alice, bob, 1))), [`plain ${b} mark 1`, `plain ${c} mark 1`])
  })

  it('sends a frame to a known station to its port alone', () => {
    const lanSwitch = newSwitch()
    const [a, b] = [lanSwitch.openPlainPort(), lanSwitch.openPlainPort(), lanSwitch.openPlainPort()]
    lanSwitch.onFrame(b, frame(bob, broadcastMac))
    assert.deepEqual(marks(lanSwitch.onFrame(a, frame(alice, bob, 2))), [`plain ${b} mark 2`])
  })

  it('follows a station that moved, and forgets it when its port closes', () => {
    const lanSwitch = newSwitch()
    const [a, b, c] = [lanSwitch.openPlainPort(), lanSwitch.openPlainPort(), lanSwitch.openPlainPort()]
    lanSwitch.onFrame(b, frame(bob, broadcastMac))
    lanSwitch.onFrame(c, frame(bob, broadcastMac))
    assert.deepEqual(marks(lanSwitch.onFrame(a, frame(alice, bob))), [`plain ${c} mark 0`])
    lanSwitch.closePort(c)
    assert.deepEqual(marks(lanSwitch.onFrame(a, frame(alice, bob))), [`plain ${b} mark 0`])
  })

  it('bounds the table of stations', () => {
    const lanSwitch = newSwitch({ stations: 8, kept: { frames: 8, bytes: 1 << 20 } })
    const port = lanSwitch.openPlainPort()
    for (let n = 0; n < 100; n++) lanSwitch.onFrame(port, frame((0x0200_0000_0000 + n) as Mac, broadcastMac))
    assert.equal(lanSwitch.statistics().stationsLearned, 8)
  })

  it('drops frames that are too short, too long, or come from a group address', () => {
    const lanSwitch = newSwitch()
    const port = lanSwitch.openPlainPort()
    lanSwitch.openPlainPort()
    assert.deepEqual(lanSwitch.onFrame(port, new Uint8Array(13)), [])
    assert.deepEqual(lanSwitch.onFrame(port, new Uint8Array(70_000)), [])
    assert.deepEqual(lanSwitch.onFrame(port, frame(broadcastMac, alice)), [])
    assert.equal(lanSwitch.statistics().badDropped, 3)
  })

  it('sends to a private port its own station’s frames only', () => {
    const lanSwitch = newSwitch()
    const gateway = lanSwitch.openPlainPort(vm)
    const station = lanSwitch.openPlainPort()
    assert.deepEqual(lanSwitch.onFrame(station, frame(alice, broadcastMac)), [])
    const replica = lanSwitch.openReplicaPort('vm', 'a')
    lanSwitch.onBind(replica, bindRequest(1n))
    const delivered = marks(lanSwitch.onOutput(replica, 1n, frame(vm, broadcastMac, 5)))
    assert.ok(delivered.includes(`plain ${gateway} mark 5`))
  })
})

describe('the switch, for a protected machine', () => {
  it('never learns its MAC: frames that carry it from another port are dropped and counted', () => {
    const lanSwitch = newSwitch()
    const spoofer = lanSwitch.openPlainPort()
    const station = lanSwitch.openPlainPort()
    const replica = lanSwitch.openReplicaPort('vm', 'a')
    lanSwitch.onBind(replica, bindRequest(1n))
    assert.deepEqual(lanSwitch.onFrame(spoofer, frame(vm, broadcastMac)), [])
    assert.equal(lanSwitch.statistics().spoofedDropped, 1)
    assert.equal(lanSwitch.statistics().stationsLearned, 0)
    assert.deepEqual(marks(lanSwitch.onFrame(station, frame(alice, vm, 3))), [`machine ${replica} id 1 mark 3`])
  })

  it('drops what its guest sends under another address, but confirms it', () => {
    const lanSwitch = newSwitch()
    lanSwitch.openPlainPort()
    const replica = lanSwitch.openReplicaPort('vm', 'a')
    lanSwitch.onBind(replica, bindRequest(1n))
    for (const source of [otherVm, alice]) lanSwitch.onOutput(replica, source === alice ? 2n : 1n, frame(source, bob))
    assert.equal(machineStatistics(lanSwitch).forgedDropped, 2)
    assert.equal(machineStatistics(lanSwitch).forwardedSequence, '2')
  })

  it('is not flooded with frames between other stations, but gets broadcast and multicast', () => {
    const lanSwitch = newSwitch()
    const port = lanSwitch.openPlainPort()
    const replica = lanSwitch.openReplicaPort('vm', 'a')
    lanSwitch.onBind(replica, bindRequest(1n))
    assert.deepEqual(lanSwitch.onFrame(port, frame(alice, bob)), [])
    assert.deepEqual(marks(lanSwitch.onFrame(port, frame(alice, broadcastMac, 1))), [`machine ${replica} id 1 mark 1`])
    assert.deepEqual(marks(lanSwitch.onFrame(port, frame(alice, multicast, 2))), [`machine ${replica} id 2 mark 2`])
  })

  it('reaches another protected machine on the same switch', () => {
    const lanSwitch = newSwitch()
    const replica = lanSwitch.openReplicaPort('vm', 'a')
    const neighbour = lanSwitch.openReplicaPort('other', 'a')
    lanSwitch.onBind(replica, bindRequest(1n))
    lanSwitch.onBind(neighbour, { ...bindRequest(1n), mac: otherVm })
    const delivered = marks(lanSwitch.onOutput(replica, 1n, frame(vm, otherVm, 9)))
    assert.ok(delivered.some((line) => line.startsWith(`machine ${neighbour}`) && line.endsWith('mark 9')))
  })

  it('is announced at bind with one RARP broadcast under its MAC, and again when asked', () => {
    const lanSwitch = newSwitch()
    lanSwitch.openPlainPort()
    const replica = lanSwitch.openReplicaPort('vm', 'a')
    assert.deepEqual(lanSwitch.onAnnounce(replica), [], 'not before it is bound')
    for (const deliveries of [lanSwitch.onBind(replica, bindRequest(1n)), lanSwitch.onAnnounce(replica)]) {
      const announcement = deliveries.find((delivery) => delivery.kind === 'plain-frame')?.frame
      assert.ok(announcement)
      assert.equal(destinationOf(announcement), broadcastMac)
      assert.equal(sourceOf(announcement), vm)
      assert.deepEqual([...announcement.subarray(12, 22)], [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3])
    }
  })

  it('forwards each sequence once; a repeat is dropped, counted, and confirmed again', () => {
    const lanSwitch = newSwitch()
    const port = lanSwitch.openPlainPort()
    const replica = lanSwitch.openReplicaPort('vm', 'a')
    lanSwitch.onBind(replica, bindRequest(1n))
    assert.deepEqual(marks(lanSwitch.onOutput(replica, 7n, frame(vm, alice, 1))), [
      `plain ${port} mark 1`,
      `confirmed ${replica} 7`,
    ])
    assert.deepEqual(marks(lanSwitch.onOutput(replica, 7n, frame(vm, alice, 1))), [`confirmed ${replica} 7`])
    assert.deepEqual(marks(lanSwitch.onOutput(replica, 3n, frame(vm, alice, 1))), [`confirmed ${replica} 7`])
    assert.equal(machineStatistics(lanSwitch).repeatsDropped, 2)
  })

  it('keeps inbound frames while no replica is connected, and delivers them at the next bind', () => {
    const lanSwitch = newSwitch()
    const station = lanSwitch.openPlainPort()
    const primary = lanSwitch.openReplicaPort('vm', 'a')
    lanSwitch.onBind(primary, bindRequest(1n))
    for (let mark = 1; mark <= 3; mark++) lanSwitch.onFrame(station, frame(alice, vm, mark))
    lanSwitch.onCovered(primary, 1n)
    lanSwitch.closePort(primary)
    assert.deepEqual(lanSwitch.onFrame(station, frame(alice, vm, 4)), [])
    const backup = lanSwitch.openReplicaPort('vm', 'b')
    assert.deepEqual(marks(lanSwitch.onBind(backup, bindRequest(2n, 2n))).slice(0, 3), [
      `bound ${backup} sequence 0 frame 4`,
      `machine ${backup} id 3 mark 3`,
      `machine ${backup} id 4 mark 4`,
    ])
    assert.deepEqual(marks(lanSwitch.onFrame(station, frame(alice, vm, 5))), [`machine ${backup} id 5 mark 5`])
  })

  it('keeps a copy: the buffer that a frame came in may be used again', () => {
    const lanSwitch = newSwitch()
    const station = lanSwitch.openPlainPort()
    lanSwitch.onBind(lanSwitch.openReplicaPort('vm', 'a'), bindRequest(1n))
    const bytes = frame(alice, vm, 1)
    lanSwitch.onFrame(station, bytes)
    bytes.fill(0xee)
    const backup = lanSwitch.openReplicaPort('vm', 'b')
    assert.ok(marks(lanSwitch.onBind(backup, bindRequest(2n))).includes(`machine ${backup} id 1 mark 1`))
  })

  it('bounds what it keeps: beyond it new frames are dropped, counted, and leave no gap in the numbers', () => {
    const lanSwitch = newSwitch({ stations: 8, kept: { frames: 3, bytes: 1 << 20 } })
    const station = lanSwitch.openPlainPort()
    const replica = lanSwitch.openReplicaPort('vm', 'a')
    lanSwitch.onBind(replica, bindRequest(1n))
    for (let n = 0; n < 5; n++) lanSwitch.onFrame(station, frame(alice, vm))
    assert.equal(machineStatistics(lanSwitch).fullDropped, 2)
    lanSwitch.onCovered(replica, 3n)
    assert.deepEqual(marks(lanSwitch.onFrame(station, frame(alice, vm))), [`machine ${replica} id 4 mark 0`])
  })

  it('pauses its private port while its kept frames fill half their store, so that none is dropped', () => {
    const lanSwitch = newSwitch({ stations: 8, kept: { frames: 8, bytes: 1 << 20 } })
    const [gateway, station] = [lanSwitch.openPlainPort(vm), lanSwitch.openPlainPort()]
    const primary = lanSwitch.openReplicaPort('vm', 'a')
    lanSwitch.onBind(primary, bindRequest(1n))
    for (let n = 1; n <= 4; n++) assert.equal(lanSwitch.onFrame(gateway, frame(bob, vm)).length, 1)
    assert.deepEqual(marks(lanSwitch.onFrame(station, frame(alice, vm))), [
      `pause ${gateway}`,
      `machine ${primary} id 5 mark 0`,
    ])
    assert.deepEqual(marks(lanSwitch.onFrame(station, frame(alice, vm))), [`machine ${primary} id 6 mark 0`])
    assert.deepEqual(marks(lanSwitch.onCovered(primary, 3n)), [], 'three of eight are still kept')
    assert.deepEqual(marks(lanSwitch.onCovered(primary, 4n)), [`resume ${gateway}`])
    // A takeover frees what the backup's log covers.
    for (let n = 7; n <= 9; n++) lanSwitch.onFrame(gateway, frame(bob, vm))
    const backup = lanSwitch.openReplicaPort('vm', 'b')
    assert.ok(marks(lanSwitch.onBind(backup, bindRequest(2n, 9n))).includes(`resume ${gateway}`))
  })

  it('has no cable before its first bind: frames are dropped and counted', () => {
    const lanSwitch = newSwitch()
    const station = lanSwitch.openPlainPort()
    lanSwitch.onFrame(station, frame(alice, vm))
    assert.equal(machineStatistics(lanSwitch).unboundDropped, 1)
    const replica = lanSwitch.openReplicaPort('vm', 'a')
    assert.equal(marks(lanSwitch.onBind(replica, bindRequest(1n))).length, 2, 'bound and the announcement')
  })
})

describe('binding', () => {
  it('belongs to the highest generation; the old replica is told, and its outputs reach nobody', () => {
    const lanSwitch = newSwitch()
    lanSwitch.openPlainPort()
    const [primary, backup] = [lanSwitch.openReplicaPort('vm', 'a'), lanSwitch.openReplicaPort('vm', 'b')]
    lanSwitch.onBind(primary, bindRequest(1n))
    assert.equal(marks(lanSwitch.onBind(backup, bindRequest(2n)))[0], `refused ${primary} fenced 2`)
    assert.deepEqual(lanSwitch.onOutput(primary, 99n, frame(vm, alice)), [])
    assert.equal(machineStatistics(lanSwitch).fencedDropped, 1)
    assert.equal(machineStatistics(lanSwitch).forwardedSequence, '0', 'a fenced output moves no sequence')
    assert.deepEqual(marks(lanSwitch.onBind(primary, bindRequest(1n))), [`refused ${primary} stale-generation 2`])
  })

  it('is refused to a second replica in one generation, allowed to the same one again', () => {
    const lanSwitch = newSwitch()
    const [primary, backup] = [lanSwitch.openReplicaPort('vm', 'a'), lanSwitch.openReplicaPort('vm', 'b')]
    lanSwitch.onBind(primary, bindRequest(1n))
    assert.deepEqual(marks(lanSwitch.onBind(backup, bindRequest(1n))), [`refused ${backup} other-replica 1`])
    const again = lanSwitch.openReplicaPort('vm', 'a')
    assert.equal(marks(lanSwitch.onBind(again, bindRequest(1n)))[0], `refused ${primary} fenced 1`)
  })

  it('is refused with another MAC than the machine’s, and to what nobody could have covered', () => {
    const lanSwitch = newSwitch()
    const port = lanSwitch.openReplicaPort('vm', 'a')
    assert.deepEqual(marks(lanSwitch.onBind(port, { ...bindRequest(1n), mac: otherVm })), [
      `refused ${port} wrong-mac 0`,
    ])
    assert.deepEqual(marks(lanSwitch.onBind(port, bindRequest(1n, 2n ** 64n - 1n))), [`refused ${port} bad-frame-id 0`])
  })

  it('is needed before a replica is heard: covered from an unbound replica frees nothing', () => {
    const lanSwitch = newSwitch()
    const station = lanSwitch.openPlainPort()
    const [primary, backup] = [lanSwitch.openReplicaPort('vm', 'a'), lanSwitch.openReplicaPort('vm', 'b')]
    lanSwitch.onBind(primary, bindRequest(1n))
    lanSwitch.onFrame(station, frame(alice, vm))
    lanSwitch.onCovered(backup, 1n)
    assert.equal(machineStatistics(lanSwitch).framesKept, 1)
  })

  it('with another log id starts sequences and frame numbers again, and forgets the dead machine’s frames', () => {
    const lanSwitch = newSwitch()
    const station = lanSwitch.openPlainPort()
    const first = lanSwitch.openReplicaPort('vm', 'a')
    lanSwitch.onBind(first, bindRequest(1n))
    lanSwitch.onOutput(first, 50n, frame(vm, alice))
    lanSwitch.onFrame(station, frame(alice, vm))
    const second = lanSwitch.openReplicaPort('vm', 'a')
    const deliveries = marks(lanSwitch.onBind(second, bindRequest(2n, 0n, 2n)))
    assert.ok(deliveries.includes(`bound ${second} sequence 0 frame 0`))
    assert.ok(!deliveries.some((line) => line.startsWith('machine')))
    lanSwitch.onOutput(second, 1n, frame(vm, alice))
    assert.equal(machineStatistics(lanSwitch).outputsForwarded, 2)
  })

  it('to a switch that was started again goes on numbering frames where the replica is', () => {
    const lanSwitch = newSwitch()
    const station = lanSwitch.openPlainPort()
    const replica = lanSwitch.openReplicaPort('vm', 'a')
    lanSwitch.onBind(replica, bindRequest(3n, 1000n))
    assert.deepEqual(marks(lanSwitch.onFrame(station, frame(alice, vm))), [`machine ${replica} id 1001 mark 0`])
  })
})

describe('random traffic', () => {
  it('never loses an uncovered frame, never delivers one twice to a binding, never forwards a sequence twice', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = new Prng(seed)
      const lanSwitch = newSwitch()
      const station = lanSwitch.openPlainPort()
      let generation = 1n
      let port = lanSwitch.openReplicaPort('vm', 'r1')
      let received = new Set<bigint>()
      let acknowledged = 0n
      let nextSequence = 1n
      const forwarded: number[] = []
      const take = (deliveries: readonly Delivery[]): void => {
        for (const delivery of deliveries) {
          if (delivery.kind === 'machine-frame' && delivery.port === port) {
            assert.ok(!received.has(delivery.frameId), `seed ${seed}: frame ${delivery.frameId} came twice`)
            received.add(delivery.frameId)
          }
          if (delivery.kind === 'plain-frame' && delivery.frame[12] !== 0x80) {
            forwarded.push(new DataView(delivery.frame.buffer).getUint32(16))
          }
        }
      }
      take(lanSwitch.onBind(port, bindRequest(generation)))
      let sent = 0n
      for (let step = 0; step < 300; step++) {
        const choice = random.below(20)
        if (choice < 9) {
          sent++
          take(lanSwitch.onFrame(station, frame(alice, vm)))
        } else if (choice < 16) {
          // Sometimes steps back, as a backup does that sends its unconfirmed outputs again.
          if (random.chance(0.2)) nextSequence -= BigInt(random.below(Number(nextSequence)))
          const output = frame(vm, alice)
          new DataView(output.buffer).setUint32(16, Number(nextSequence))
          take(lanSwitch.onOutput(port, nextSequence++, output))
        } else if (choice < 18) {
          while (received.has(acknowledged + 1n) && random.chance(0.8)) acknowledged++
          lanSwitch.onCovered(port, acknowledged)
        } else {
          lanSwitch.closePort(port)
          const gap = BigInt(random.below(3))
          for (let n = 0n; n < gap; n++) take(lanSwitch.onFrame(station, frame(alice, vm)))
          sent += gap
          port = lanSwitch.openReplicaPort('vm', `r${step}`)
          received = new Set(Array.from({ length: Number(acknowledged) }, (_, index) => BigInt(index + 1)))
          take(lanSwitch.onBind(port, bindRequest(++generation, acknowledged)))
        }
        assert.equal(BigInt(received.size), sent, `seed ${seed}: every frame is with the live replica`)
      }
      assert.equal(new Set(forwarded).size, forwarded.length, `seed ${seed}: no sequence was forwarded twice`)
    }
  })
})
