/**
 * The computer: engine, devices, boot and SBI calls behind the one interface `Machine`. The loop in `run` is the heart of
 * the project; everything else decides when to call it, and with which inputs.
 *
 * What is part of the machine's state, and so of digest and snapshot: registers, CSRs, RAM, clock (engine), every device,
 * requests in flight with their bounce buffers, frames and console bytes that wait, who waits for entropy, whether the
 * hart waits, whether power is on, and the number of the next output. Outputs that were not taken yet are not: take
 * them first.
 */

import { assert, unreachable, WorldError } from '../base/assert.ts'
import { ByteReader, ByteWriter } from '../base/bytes.ts'
import { hash64 } from '../base/digest.ts'
import { GiB, MiB, pageBytes } from '../base/units.ts'
import type { Bus, Engine } from '../engine/types.ts'
import { bootBare, bootLinux, checkProgramFits, type LinuxLayout, planLinux } from './boot.ts'
import { ConsoleBatch } from './console-batch.ts'
import { CoreLocalInterruptor } from './devices/clint.ts'
import type { MmioDevice } from './devices/device.ts'
import { RealTimeClock } from './devices/goldfish-rtc.ts'
import { InterruptController } from './devices/plic.ts'
import { Finisher } from './devices/sifive-test.ts'
import { Uart } from './devices/uart.ts'
import { VirtioBlock } from './devices/virtio/block.ts'
import { VirtioEntropy } from './devices/virtio/entropy.ts'
import { VirtioNet } from './devices/virtio/net.ts'
import { VirtioPowerKey } from './devices/virtio/power-key.ts'
import { VirtioScsi } from './devices/virtio/scsi.ts'
import type { VirtioDevice, VirtioParts } from './devices/virtio/virtio-mmio.ts'
import { type BareProgram, readElf } from './elf.ts'
import { EntropyDesk } from './entropy-desk.ts'
import { GuestMemory } from './guest-memory.ts'
import { HostInterface } from './htif.ts'
import { describeKernel } from './kernel-image.ts'
import { MemoryDigest } from './memory-digest.ts'
import { firstVirtioLine, memoryMap, rtcLine, uartLine, virtioSlotBase, virtioSlots } from './memory-map.ts'
import { Outbox } from './outbox.ts'
import { decodePages, PageCopy } from './page-copy.ts'
import { Power } from './power.ts'
import { SupervisorBinaryInterface } from './sbi.ts'
import { decodeSnapshot, encodeSnapshot, hashLong } from './snapshot.ts'
import { SystemBus } from './system-bus.ts'
import {
  type BootImage,
  type ClockAnchor,
  type Input,
  type InstructionCount,
  instructionCount,
  type Machine,
  type MachineConfig,
  type MachineCopy,
  type Output,
  type StopReason,
  type Ticks,
} from './types.ts'

export type CreateEngine = (options: { ramBytes: number; bus: Bus }) => Engine

/** Slots that are not for disks: network card, entropy device, power button. */
const reservedSlots = 3
const rngSeedBytes = 64
const treeSeedBytes = 32
const csr = { mie: 0x304, mip: 0x344 } as const

/** The boot image, checked and understood. */
type Program =
  | { readonly kind: 'linux'; readonly image: Extract<BootImage, { kind: 'linux' }>; readonly layout: LinuxLayout }
  | { readonly kind: 'elf'; readonly program: BareProgram }

/**
 * A machine that is off and waits for its `boot` input. A config or an image that cannot work is a `WorldError`.
 */
export function createMachine(config: MachineConfig, image: BootImage, createEngine: CreateEngine): Machine {
  checkConfig(config)
  return new EmulatedMachine(config, readImage(config, image), fingerprint(config, image), createEngine)
}

function checkConfig({ ramBytes, disks, nic }: MachineConfig): void {
  if (!(ramBytes >= 64 * MiB && ramBytes <= 3 * GiB && ramBytes % pageBytes === 0)) {
    throw new WorldError('bad-memory-size', 'memory must be between 64M and 3G, in steps of 4K')
  }
  if (disks.length > virtioSlots - reservedSlots) {
    throw new WorldError(
      'too-many-disks',
      `${disks.length} disks; a machine has at most ${virtioSlots - reservedSlots}`,
    )
  }
  for (const { serial } of disks) {
    if (!/^[\x20-\x7e]{0,20}$/.test(serial)) {
      throw new WorldError('bad-disk-serial', `disk serial "${serial}" must be at most 20 printable ASCII characters`)
    }
  }
  if (nic && nic.mac.length !== 6) throw new WorldError('bad-mac', 'a MAC address has six bytes')
}

function readImage(config: MachineConfig, image: BootImage): Program {
  switch (image.kind) {
    case 'linux':
      return { kind: 'linux', image, layout: planLinux(config, image, describeKernel(image.kernel)) }
    case 'elf': {
      const program = readElf(image.file)
      checkProgramFits(config, program)
      return { kind: 'elf', program }
    }
    default:
      return unreachable(image)
  }
}

/** Two machines with the same fingerprint can exchange snapshots. */
function fingerprint(config: MachineConfig, image: BootImage): bigint {
  const writer = new ByteWriter()
  writer.f64(config.ramBytes).u32(config.disks.length)
  for (const { sectors, readOnly, serial, bus } of config.disks) {
    writer
      .u64(sectors)
      .bool(readOnly)
      .text(serial)
      .bool(bus === 'scsi')
  }
  writer.bool(config.nic !== undefined)
  if (config.nic) writer.raw(config.nic.mac)
  writer.text(image.kind)
  if (image.kind === 'elf') writer.u64(hashLong(image.file))
  else writer.u64(hashLong(image.kernel)).u64(hashLong(image.initrd)).text(image.bootArguments)
  return hash64(writer.view())
}

class EmulatedMachine implements Machine {
  readonly config: MachineConfig
  readonly #program: Program
  readonly #fingerprint: bigint
  readonly #engine: Engine
  readonly #outbox = new Outbox()
  readonly #console = new ConsoleBatch(this.#outbox)
  readonly #power = new Power(this.#outbox, this.#console)
  readonly #entropy: EntropyDesk
  readonly #sbi: SupervisorBinaryInterface
  readonly #htif: HostInterface | undefined
  readonly #uart: Uart
  readonly #rtc: RealTimeClock
  readonly #disks: (VirtioBlock | VirtioScsi)[]
  readonly #net: VirtioNet | undefined
  readonly #rng: VirtioEntropy
  readonly #powerKey: VirtioPowerKey
  readonly #virtio: VirtioDevice[]
  /** In the order of their state in digests and snapshots. The interrupt controller is first, so that lines find it. */
  readonly #devices: MmioDevice[]
  readonly #memoryDigest: MemoryDigest
  readonly #state = new ByteWriter(4096)
  /** A copy of RAM that is being made. */
  #copy: PageCopy | undefined
  /** The last instruction was a WFI that found nothing to do. */
  #isWaiting = false

  constructor(config: MachineConfig, program: Program, fingerprint: bigint, createEngine: CreateEngine) {
    this.config = config
    this.#program = program
    this.#fingerprint = fingerprint
    const bus = new SystemBus(this.#outbox, this.#power)
    const engine = createEngine({ ramBytes: config.ramBytes, bus })
    this.#engine = engine
    bus.connect(engine)
    const memory = new GuestMemory(engine)
    this.#memoryDigest = new MemoryDigest(config.ramBytes)
    this.#entropy = new EntropyDesk(engine, this.#outbox)

    const plic = new InterruptController(engine)
    const clint = new CoreLocalInterruptor(engine)
    this.#uart = new Uart(this.#console, plic.line(uartLine))
    this.#rtc = new RealTimeClock(engine)
    plic.line(rtcLine)(false)
    bus.attach(memoryMap.plic, plic)
    bus.attach(memoryMap.clint, clint)
    bus.attach(memoryMap.uart, this.#uart)
    bus.attach(memoryMap.rtc, this.#rtc)

    // Slots in this order: Linux names disks in the order it finds them.
    let slot = 0
    const parts = (): VirtioParts => ({ memory, line: plic.line(firstVirtioLine + slot) })
    const plug = <T extends VirtioDevice>(device: T): T => {
      bus.attach({ base: virtioSlotBase(slot), lengthBytes: memoryMap.virtio.lengthBytes }, device)
      slot += 1
      return device
    }
    this.#disks = config.disks.map((disk, index) => {
      const Device = disk.bus === 'scsi' ? VirtioScsi : VirtioBlock
      return plug(new Device(parts(), disk, index, this.#outbox))
    })
    this.#net = config.nic && plug(new VirtioNet(parts(), config.nic.mac, this.#outbox))
    this.#rng = plug(new VirtioEntropy(parts(), this.#entropy))
    this.#powerKey = plug(new VirtioPowerKey(parts()))
    this.#virtio = [...this.#disks, ...(this.#net ? [this.#net] : []), this.#rng, this.#powerKey]

    this.#devices = [plic, clint, this.#uart, this.#rtc, ...this.#virtio]
    this.#sbi = new SupervisorBinaryInterface(engine, memory, this.#power, this.#console, this.#uart)
    if (program.kind === 'elf') {
      bus.attach(memoryMap.sifiveTest, new Finisher(this.#power))
      const { tohost, fromhost } = program.program
      if (tohost !== undefined) {
        this.#htif = new HostInterface(engine, memory, this.#power, this.#console, { tohost, fromhost })
      }
    }
  }

  get count(): InstructionCount {
    return instructionCount(this.#engine.count)
  }

  get ticks(): Ticks {
    return this.#engine.ticks
  }

  get clockAnchor(): ClockAnchor | undefined {
    return this.#rtc.anchor
  }

  run(until: InstructionCount): StopReason {
    for (;;) {
      if (!this.#outbox.isEmpty) return { kind: 'outputs' }
      if (this.#power.exitCode !== undefined) return { kind: 'exited', code: this.#power.exitCode }
      if (!this.#power.isOn) return { kind: 'off' }
      if (this.#engine.count >= until) return { kind: 'count' }
      if (this.#isWaiting && !this.#canWake()) return { kind: 'waiting', deadline: this.#engine.nextDeadline }
      this.#isWaiting = false

      const exit = this.#engine.run(until)
      switch (exit) {
        case 'count':
          break
        case 'supervisorCall':
          this.#sbi.onCall()
          break
        case 'stopRequested':
          this.#htif?.onStop()
          break
        case 'waiting':
          this.#isWaiting = true
          this.#console.flush()
          this.#entropy.topUp()
          break
        default:
          unreachable(exit)
      }
    }
  }

  /** An interrupt that is enabled in `mie` is pending: WFI ends, whatever `mstatus` says (privileged ISA, 3.3.3). */
  #canWake(): boolean {
    const engine = this.#engine
    if ((engine.getCsr(csr.mip) & engine.getCsr(csr.mie)) !== 0n) return true
    const deadline = engine.nextDeadline
    return deadline !== undefined && engine.ticks >= deadline
  }

  get hasPowerButtonDriver(): boolean {
    return this.#power.isOn && this.#powerKey.isLive
  }

  get frameRoom(): number {
    return this.#net?.room ?? Number.POSITIVE_INFINITY
  }

  apply(input: Input): void {
    switch (input.kind) {
      case 'boot':
        this.#boot(input.rngSeed, input.wallClockNs)
        break
      case 'clock':
        this.#onClock(input.ticks, input.ratePer2p32, input.capTicks)
        break
      case 'frame':
        this.#net?.receive(input.bytes)
        break
      case 'diskCompletion': {
        const disk = this.#disks.find((candidate) => candidate.expects(input.sequence))
        assert(disk, `an answer to disk request ${input.sequence}, which is not in flight`)
        disk.onAnswer(input.sequence, input.status, input.data)
        break
      }
      case 'consoleInput':
        this.#uart.receive(input.bytes)
        break
      case 'entropy':
        this.#entropy.onEntropy(input.bytes, (bytes) => this.#rng.onEntropy(bytes))
        break
      case 'powerButton':
        this.#powerKey.press()
        break
      default:
        unreachable(input)
    }
  }

  #onClock(ticks: Ticks, ratePer2p32: bigint, cap: Ticks): void {
    const engine = this.#engine
    const before = engine.ticks
    // The text is made only then: the epoch discipline has a clock entry every few microseconds.
    if (ticks < before) assert(false, `a clock entry that goes back, from ${before} to ${ticks}`)
    engine.setClock({ n0: engine.count, t0: ticks, ratePer2p32, cap })
    this.#console.flush()
    if (this.#power.isOn) this.#entropy.topUp()
  }

  #boot(rngSeed: Uint8Array, wallClockNs: bigint): void {
    assert(rngSeed.length === rngSeedBytes, `a boot seed has ${rngSeedBytes} bytes`)
    assert(!this.#power.isOn, 'a boot input for a machine that is on')
    const engine = this.#engine
    this.#clearMemory()
    for (const device of this.#devices) device.reset()
    this.#isWaiting = false
    this.#rtc.start(wallClockNs)
    engine.seedPool.add(rngSeed.subarray(treeSeedBytes))
    if (this.#program.kind === 'linux') {
      const { image, layout } = this.#program
      const tree = { rngSeed: rngSeed.subarray(0, treeSeedBytes), virtioDevices: this.#virtio.length }
      bootLinux(engine, image, layout, tree)
    } else bootBare(engine, this.#program.program)
    this.#htif?.watch()
    this.#power.turnOn()
  }

  /** Registers and RAM as at power-on; count and clock go on. */
  #clearMemory(): void {
    const clock = this.#engine.getClock()
    this.#engine.reset()
    this.#engine.setClock(clock)
    this.#engine.takeWrittenPages()
    this.#memoryDigest.clear()
    this.#copy?.markAll()
  }

  /** What was written since the last call: digest and copy take note. */
  #noteWrittenPages(): void {
    const pages = this.#engine.takeWrittenPages()
    this.#memoryDigest.update(this.#engine.ram, pages)
    this.#copy?.markWritten(pages)
  }

  takeOutputs(): Output[] {
    return this.#outbox.take()
  }

  inFlightDiskRequests(): Extract<Output, { kind: 'disk' }>[] {
    const requests = this.#disks.flatMap((disk) => disk.inFlight())
    return requests.sort((a, b) => (a.sequence < b.sequence ? -1 : 1))
  }

  digest(): bigint {
    this.#noteWrittenPages()
    return hash64(this.#saveState(), this.#memoryDigest.value)
  }

  /** Everything but RAM. Valid until the next call. */
  #saveState(): Uint8Array {
    const writer = this.#state
    writer.clear()
    writer.u64(this.#engine.count).bool(this.#isWaiting)
    this.#power.saveState(writer)
    this.#outbox.saveState(writer)
    this.#console.saveState(writer)
    this.#entropy.saveState(writer)
    for (const device of this.#devices) device.saveState(writer)
    this.#engine.saveState(writer)
    return writer.view()
  }

  snapshot(): Uint8Array {
    assert(this.#outbox.isEmpty, 'a snapshot while outputs wait to be taken')
    return encodeSnapshot(this.#fingerprint, this.#saveState(), this.#engine.ram)
  }

  restore(snapshot: Uint8Array): void {
    const { machine, state, pages } = decodeSnapshot(snapshot)
    if (machine !== this.#fingerprint) {
      throw new WorldError(
        'snapshot-of-other-machine',
        'the snapshot is of a machine with another config or boot image',
      )
    }
    this.#clearMemory()
    for (const { page, content } of pages) this.#engine.restorePage(page, content)

    this.#loadState(new ByteReader(state))
    this.#engine.takeWrittenPages()
    this.#memoryDigest.update(
      this.#engine.ram,
      pages.map(({ page }) => page),
    )
  }

  #loadState(reader: ByteReader): void {
    this.#engine.count = reader.u64()
    this.#isWaiting = reader.bool()
    this.#power.loadState(reader)
    this.#outbox.loadState(reader)
    this.#console.loadState(reader)
    this.#entropy.loadState(reader)
    for (const device of this.#devices) device.loadState(reader)
    // Last: loading devices drives interrupt lines, and the engine's own state has the final word.
    this.#engine.loadState(reader)
    reader.end()
    this.#htif?.watch()
  }

  startCopy(): MachineCopy {
    // What was written before belongs to the digest alone.
    this.#noteWrittenPages()
    const copy = new PageCopy(this.#engine.ram)
    this.#copy = copy
    return {
      get duePages() {
        return copy.duePages
      },
      get round() {
        return copy.round
      },
      beginRound: () => {
        this.#noteWrittenPages()
        copy.beginRound()
      },
      takePages: (maxPages) => copy.take(maxPages),
      takeState: () => this.#copiedState(copy),
      end: () => {
        if (this.#copy === copy) this.#copy = undefined
      },
    }
  }

  #copiedState(copy: PageCopy): Uint8Array {
    assert(this.#outbox.isEmpty, 'a copy while outputs wait to be taken')
    this.#noteWrittenPages()
    assert(copy.duePages === 0, `${copy.duePages} pages are not copied yet`)
    return new ByteWriter().u64(this.#fingerprint).raw(this.#saveState()).finish()
  }

  loadPages(bytes: Uint8Array): void {
    const pages = decodePages(bytes, this.#engine.ramBytes / pageBytes)
    for (const { page, content } of pages) this.#engine.restorePage(page, content)
    this.#noteWrittenPages()
  }

  loadState(state: Uint8Array): void {
    const reader = new ByteReader(state)
    if (reader.u64() !== this.#fingerprint) {
      throw new WorldError('state-of-other-machine', 'the state is of a machine with another config or boot image')
    }
    this.#loadState(reader)
  }
}
