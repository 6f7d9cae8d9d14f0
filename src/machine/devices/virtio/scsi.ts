import { ByteWriter } from '../../../base/bytes.ts'
import { sectorBytes } from '../../../base/units.ts'
import type { Outbox } from '../../outbox.ts'
import type { DiskConfig, DiskStatus } from '../../types.ts'
import { type Chain, DriverFault, gather, overlapsAny, scatter, sliceSegments, totalBytes } from './descriptor-chain.ts'
import { VirtioDisk } from './disk-device.ts'
import { type DiskOutput, largestRequestBytes, mostSegments, type Place } from './disk-requests.ts'
import { encodeSense, readCommand, type Sense, sense } from './scsi-commands.ts'
import type { VirtioParts } from './virtio-mmio.ts'

const deviceId = 8
const queueIndex = { control: 0, event: 1, request: 2 } as const
const queueSizes = [16, 16, 256]

/** lun 8, id 8, task attribute, priority, crn, then the command. */
const requestBytes = 51
const commandOffset = 19
const commandBytes = 32
/** sense length u32, residual u32, status qualifier u16, status u8, response u8, then the sense data. */
const responseBytes = 108
const senseBytes = 96

const response = { ok: 0, overrun: 1, badTarget: 3, reset: 4, functionRejected: 11 } as const
const scsiStatus = { good: 0, checkCondition: 2 } as const

/** A task management function; asynchronous notification: query, subscribe. */
const controlType = { taskManagement: 0, query: 1, subscribe: 2 } as const
const controlRequestBytes: Readonly<Record<number, number>> = { 0: 24, 1: 16, 2: 16 }

interface Outcome {
  readonly response: number
  readonly sense?: Sense
  /** Bytes that the driver had room for, and that were not moved. */
  readonly residualBytes?: number
}

export class VirtioScsi extends VirtioDisk {
  constructor(parts: VirtioParts, config: DiskConfig, disk: number, outbox: Outbox) {
    super(parts, { deviceId, features: 0n, queueSizes, requestQueue: queueIndex.request }, config, disk, outbox)
  }

  protected override onNotify(index: number): void {
    if (index !== queueIndex.control) {
      super.onNotify(index)
      return
    }
    this.#takeControl()
    this.signalUsed(this.queues[index]!)
  }

  protected override onChain({ head, readable, writable }: Chain): void {
    const outBytes = totalBytes(readable) - requestBytes
    const inBytes = totalBytes(writable) - responseBytes
    if (outBytes < 0 || inBytes < 0) throw new DriverFault('a SCSI request without header or response')
    if (outBytes > 0 && inBytes > 0) throw new DriverFault('a SCSI request with data in both directions')
    if (this.requests.isPending(head, this.epoch)) throw new DriverFault('a SCSI request that is in flight already')
    const place: Place = {
      head,
      destination: sliceSegments(writable, responseBytes, inBytes),
      response: sliceSegments(writable, 0, responseBytes),
    }
    if (place.response.some((segment) => overlapsAny(segment, place.destination))) {
      throw new DriverFault('a SCSI response inside the data')
    }
    const header = gather(this.memory, sliceSegments(readable, 0, requestBytes))
    if (!isOurUnit(header)) {
      this.#answer(place, { response: response.badTarget }, 0)
      return
    }
    const action = readCommand(header.subarray(commandOffset, commandOffset + commandBytes), this.config)
    switch (action.kind) {
      case 'refuse':
        this.#answer(place, { response: response.ok, sense: action.sense }, 0)
        return
      case 'data': {
        const written = scatter(this.memory, place.destination, action.bytes.subarray(0, inBytes))
        this.#answer(place, { response: response.ok, residualBytes: inBytes + outBytes - written }, written)
        return
      }
      case 'flush':
        this.requests.add(this.epoch, place, 'flush', 0n, 0)
        return
      case 'move': {
        const { operation, sector, lengthBytes } = action
        if (lengthBytes !== (operation === 'read' ? inBytes : outBytes)) {
          this.#answer(place, { response: response.overrun }, 0)
          return
        }
        const data =
          operation === 'write' ? gather(this.memory, sliceSegments(readable, requestBytes, outBytes)) : undefined
        this.requests.add(this.epoch, place, operation, sector, lengthBytes, data)
      }
    }
  }

  protected override finish(
    place: Place,
    status: DiskStatus,
    operation: DiskOutput['operation'],
    dataBytes: number,
  ): void {
    this.#answer(place, outcomeOf(status, operation), dataBytes)
  }

  #answer(place: Place, { response: word, sense: why, residualBytes = 0 }: Outcome, dataBytes: number): void {
    const writer = new ByteWriter(responseBytes)
    const senseData = why ? encodeSense(why) : new Uint8Array()
    writer.u32(senseData.length).u32(residualBytes).u16(0)
    writer.u8(why ? scsiStatus.checkCondition : scsiStatus.good).u8(word)
    writer.raw(senseData).raw(new Uint8Array(senseBytes - senseData.length))
    scatter(this.memory, place.response, writer.finish())
    this.queues[queueIndex.request]!.complete(place.head, responseBytes + dataBytes)
  }

  #takeControl(): void {
    const queue = this.queues[queueIndex.control]!
    for (let chain = queue.take(); chain; chain = queue.take()) {
      if (totalBytes(chain.readable) < 4) throw new DriverFault('a control request without a type')
      const type = new DataView(gather(this.memory, sliceSegments(chain.readable, 0, 4)).buffer).getUint32(0, true)
      const wanted = controlRequestBytes[type]
      if (wanted === undefined || totalBytes(chain.readable) < wanted) throw new DriverFault('a wrong control request')
      // Of asynchronous notifications, none is asked for and none granted: event_actual 0.
      const answer =
        type === controlType.taskManagement ? Uint8Array.of(response.functionRejected) : Uint8Array.of(0, 0, 0, 0, 0)
      if (totalBytes(chain.writable) < answer.length) throw new DriverFault('a control request without a response')
      queue.complete(chain.head, scatter(this.memory, chain.writable, answer))
    }
    queue.wantNotify()
  }

  /** 5.6.4. The driver may write two of the fields; with values other than these it would speak past us. */
  protected override configuration(): Uint8Array {
    const writer = new ByteWriter(36)
    writer.u32(1).u32(mostSegments)
    writer.u32(largestRequestBytes / sectorBytes).u32(queueSizes[queueIndex.request]!)
    writer.u32(16).u32(senseBytes).u32(commandBytes) // event information, sense data, command
    writer.u16(0).u16(0).u32(0) // last channel, target, unit
    return writer.finish()
  }
}

/** 5.6.6.1: a single-level address of target 0, unit 0. */
function isOurUnit(header: Uint8Array): boolean {
  return header[0] === 1 && header[1] === 0 && (header[2]! & 0x3f) === 0 && header[3] === 0
}

function outcomeOf(status: DiskStatus, operation: DiskOutput['operation']): Outcome {
  switch (status) {
    case 'ok':
      return { response: response.ok }
    case 'ioError':
      return { response: response.ok, sense: operation === 'read' ? sense.mediumReadError : sense.mediumWriteError }
    case 'unsupported':
      return { response: response.ok, sense: sense.unknownCommand }
    case 'uncertain':
      return { response: response.reset }
  }
}
