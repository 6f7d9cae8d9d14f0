/**
 * The machine's network card on a real network: a TAP interface of this replica's host, usually a port of a bridge.
 *
 * Nobody outside keeps anything for the machine, as our switch does (lan-backend.ts). So it is a network as any other:
 *
 *   - A frame that is written counts as confirmed. What a kill takes away is the network's loss; TCP sends it again.
 *   - Frames from outside get their numbers here, and frames that a dead primary had read are gone; TCP sends them again.
 *   - There is no fence. A primary that wakes late could still send what was in its kernel. Those can only be repeats of
 *     acknowledged outputs, and it halts before it runs on (the disk's fence holds).
 *
 * The TAP is attached only while this replica is live, so primary and backup on one host may name the same one. Going
 * live, the host announces where the machine's MAC is now (RARP, on QEMU's schedule), so that bridges and switches send its
 * frames here at once. Only frames for the machine go in: its MAC, broadcast, multicast.
 *
 * When more frames are not covered than `maxUncoveredFrames`, nothing is read: the interface's queue drops what comes then.
 */

import { readFileSync } from 'node:fs'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { WorldError } from '../base/assert.ts'
import {
  destinationOf,
  encodeAnnouncement,
  isGoodFrameLength,
  isGroup,
  type Mac,
  parseMac,
  sourceOf,
} from '../lan/frame.ts'
import type { LanBinding } from '../lan/lan-client.ts'
import type { NetworkBackend, NetworkEvents } from './network-backend.ts'
import { interfaceNames, TapDevice } from './tap-device.ts'

export interface TapBackendOptions extends NetworkEvents {
  readonly interfaceName: string
  readonly mac: string
  /** The primary of the same machine may be attached to the same TAP. */
  readonly isBackup: boolean
}

/** QEMU's schedule for announcing where a machine is now. */
const announceAtMs = [0, 50, 150, 250, 350]
/** Frames that are read in one turn of the event loop. */
const framesPerTurn = 64
const maxUncoveredFrames = 1024
/** A holder that was killed a moment ago is still being cleaned up. */
const busyForMs = 1000
const retryIntervalMs = 20
/** A bridge forwards about a millisecond after the carrier is there; one with spanning tree lets us wait for nothing. */
const forwardingWithinMs = 100

interface QueuedFrame {
  readonly sequence: bigint
  readonly bytes: Uint8Array
}

export class TapBackend implements NetworkBackend {
  readonly #options: TapBackendOptions
  readonly #mac: Mac
  #device: TapDevice | undefined
  /** Frames that wait for the attachment. */
  #queue: QueuedFrame[] = []
  /** False once it is known that there is no network for now: then frames are lost instead of waiting. */
  #isAttaching = true
  #lastFrameId = 0n
  #coveredFrameId = 0n
  /** Set while too many frames are uncovered. */
  #room: PromiseWithResolvers<void> | undefined
  #isDown = false
  #isClosed = false

  constructor(options: TapBackendOptions) {
    this.#options = options
    this.#mac = parseMac(options.mac)
  }

  async connect(): Promise<void> {
    const { interfaceName, isBackup } = this.#options
    const giveUpAt = performance.now() + busyForMs
    for (;;) {
      try {
        const device = await TapDevice.attach(interfaceName)
        device.close()
        return
      } catch (error) {
        if (!isBusy(error)) throw error
        if (isBackup) return
        if (performance.now() > giveUpAt) throw error
      }
      await sleep(retryIntervalMs)
    }
  }

  async bind({ receivedFrameId }: Pick<Required<LanBinding>, 'receivedFrameId'>): Promise<void> {
    this.#lastFrameId = receivedFrameId
    // A real network keeps nothing for anybody.
    this.#coveredFrameId = receivedFrameId
    await this.#attach()
  }

  send(sequence: bigint, bytes: Uint8Array): void {
    if (!this.#device && this.#isAttaching) this.#queue.push({ sequence, bytes })
    else this.#write({ sequence, bytes })
  }

  covered(frameId: bigint): void {
    this.#coveredFrameId = frameId
    if (this.#hasRoom) {
      this.#room?.resolve()
      this.#room = undefined
    }
  }

  /** Whether the interface is there and up. What lies behind it is not asked. */
  onTick(): boolean {
    return isUp(this.#options.interfaceName)
  }

  close(): void {
    this.#isClosed = true
    this.#device?.close()
    this.#device = undefined
    this.#room?.resolve()
  }

  get #hasRoom(): boolean {
    return this.#lastFrameId - this.#coveredFrameId < maxUncoveredFrames
  }

  /** Until it succeeds: a machine that is live wants its network back, however long it takes. */
  async #attach(): Promise<void> {
    let lastComplaint = ''
    while (!this.#isClosed) {
      try {
        const device = await TapDevice.attach(this.#options.interfaceName)
        await this.#untilForwarding(device.name)
        if (this.#isClosed) device.close()
        else this.#goOn(device)
        return
      } catch (error) {
        if (!(error instanceof WorldError)) throw error
        if (error.message !== lastComplaint) this.#options.trace(`tap: ${error.message}`)
        lastComplaint = error.message
      }
      this.#isAttaching = false
      for (const frame of this.#queue.splice(0)) this.#write(frame)
      await sleep(retryIntervalMs)
    }
  }

  #goOn(device: TapDevice): void {
    this.#device = device
    const announcement = encodeAnnouncement(this.#mac)
    for (const delayMs of announceAtMs) {
      if (delayMs === 0) device.write(announcement)
      else setTimeout(() => device.write(announcement), delayMs).unref()
    }
    for (const frame of this.#queue.splice(0)) this.#write(frame)
    void this.#read(device)
  }

  /** Written or lost, the network has it. */
  #write({ sequence, bytes }: QueuedFrame): void {
    const isDown = this.#device?.write(bytes) === false
    if (isDown && !this.#isDown) this.#options.trace(`tap: frames are lost: is ${this.#options.interfaceName} down?`)
    this.#isDown = isDown
    this.#options.onConfirmed(sequence)
  }

  async #read(device: TapDevice): Promise<void> {
    try {
      while (this.#device === device) {
        if (!this.#hasRoom) {
          this.#room = Promise.withResolvers()
          await this.#room.promise
        }
        if (this.#readSome(device)) await nextTurn()
        else await device.waitForFrame()
      }
    } catch (error) {
      if (!(error instanceof WorldError)) throw error
      this.#options.trace(`tap: ${error.message}`)
      device.close()
      this.#device = undefined
      await this.#attach()
    }
  }

  /** @returns whether more frames may be waiting */
  #readSome(device: TapDevice): boolean {
    for (let count = 0; count < framesPerTurn && this.#hasRoom; count++) {
      const frame = device.read()
      if (frame === undefined) return false
      if (this.#isForMachine(frame) && this.#options.onFrame(this.#lastFrameId + 1n, frame)) this.#lastFrameId++
    }
    return true
  }

  #isForMachine(frame: Uint8Array): boolean {
    if (!isGoodFrameLength(frame.length)) return false
    const destination = destinationOf(frame)
    // What bears the machine's own address was sent by another replica of it.
    return (destination === this.#mac || isGroup(destination)) && sourceOf(frame) !== this.#mac
  }

  /** A port of a bridge drops what is written before the bridge has seen the carrier. */
  async #untilForwarding(name: string): Promise<void> {
    const giveUpAt = performance.now() + forwardingWithinMs
    while (!isForwarding(name) && performance.now() < giveUpAt) await sleep(1)
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof WorldError && error.code === 'tap-busy'
}

/** What sysfs says of the interface; true when it says nothing, as in a namespace that has no sysfs of its own. */
function isForwarding(name: string): boolean {
  const folder = `/sys/class/net/${name}`
  const bridgeState = valueIn(`${folder}/brport/state`)
  if (bridgeState !== undefined) return bridgeState === '3'
  return valueIn(`${folder}/operstate`) !== 'down'
}

/** Up as its administrator wants it: a TAP that nobody is attached to has no carrier. */
function isUp(name: string): boolean {
  const flags = valueIn(`/sys/class/net/${name}/flags`)
  return flags === undefined ? interfaceNames().includes(name) : (Number(flags) & 1) === 1
}

function valueIn(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}
