/**
 * The real-time clock, `google,goldfish-rtc` (Linux: drivers/rtc/rtc-goldfish.c): nanoseconds since 1970.
 *
 *     0x00  time low (latches high)   0x04  time high   0x08, 0x0c  alarm   0x10  interrupt enable
 *     0x14  clear alarm               0x18  alarm status   0x1c  clear interrupt
 *
 * Wall-clock time is a function of guest time: what the `boot` input gave, plus t(n) since that boot, plus what the
 * guest set. The alarm is accepted and never fires: nothing of ours suspends a machine until an alarm.
 *
 * Linux takes only whole seconds from a real-time clock at boot, and starts its own clock in the middle of that second
 * (drivers/rtc/class.c, rtc_hctosys): on real hardware it is up to half a second wrong until NTP corrects it. Here the
 * first readings after boot make Linux right: each moves this clock back to the last middle of a second, by less than one
 * second. Guest time is then behind by just that, `clockAnchor` says so, and the writer of the log makes up for it as
 * for any gap: with a step forward.
 *
 * Readings, because the driver's registration reads the clock before rtc_hctosys does (__rtc_read_alarm). On a busy host tens of
 * milliseconds lie between the two, and Linux would be late by them for ever. They are over half a second after the first.
 */

import type { ByteReader, ByteWriter } from '../../base/bytes.ts'
import type { AccessSize, Engine } from '../../engine/types.ts'
import type { ClockAnchor, Ticks } from '../types.ts'
import type { MmioDevice } from './device.ts'

const nsPerTick = 100n
const lowWord = 0xffff_ffffn
const secondNs = 1_000_000_000n
const halfSecondTicks = secondNs / 2n / nsPerTick

export class RealTimeClock implements MmioDevice {
  readonly #engine: Engine
  /** Wall clock at guest time 0, in nanoseconds. */
  #originNs = 0n
  /** What ties guest time to the host's calendar; unlike `originNs` it does not follow what the guest sets. */
  #anchor: ClockAnchor | undefined
  /** When Linux has its own time, in guest time: half a second after the first reading, or when it sets this clock. */
  #bootReadingsEnd: Ticks | undefined
  #latchedHigh = 0n
  #alarm = 0n
  #interruptEnabled = false

  constructor(engine: Engine) {
    this.#engine = engine
  }

  /** Sets the wall clock at power-on, in nanoseconds since 1970. */
  start(nowNs: bigint): void {
    this.#setWallClock(nowNs)
    this.#anchor = { wallClockNs: nowNs, ticks: this.#engine.ticks }
    this.#bootReadingsEnd = undefined
  }

  /** The calendar time that the guest is to have, at some moment of guest time; undefined before the first boot. */
  get anchor(): ClockAnchor | undefined {
    return this.#anchor
  }

  #setWallClock(nowNs: bigint): void {
    this.#originNs = nowNs - this.#engine.ticks * nsPerTick
  }

  #setByGuest(nowNs: bigint): void {
    this.#bootReadingsEnd = this.#engine.ticks
    this.#setWallClock(nowNs)
  }

  #onReading(): void {
    this.#bootReadingsEnd ??= this.#engine.ticks + halfSecondTicks
    if (this.#engine.ticks < this.#bootReadingsEnd) this.#moveToMiddleOfSecond()
  }

  #moveToMiddleOfSecond(): void {
    const excessNs = (this.wallClockNs + secondNs / 2n) % secondNs
    this.#originNs -= excessNs
    if (this.#anchor) this.#anchor = { ...this.#anchor, wallClockNs: this.#anchor.wallClockNs - excessNs }
  }

  get wallClockNs(): bigint {
    return BigInt.asUintN(64, this.#originNs + this.#engine.ticks * nsPerTick)
  }

  load(offset: number, size: AccessSize): bigint | undefined {
    if (size !== 4) return undefined
    switch (offset) {
      case 0x00: {
        this.#onReading()
        const now = this.wallClockNs
        this.#latchedHigh = now >> 32n
        return now & lowWord
      }
      case 0x04:
        return this.#latchedHigh
      case 0x08:
        return this.#alarm & lowWord
      case 0x0c:
        return this.#alarm >> 32n
      case 0x10:
        return this.#interruptEnabled ? 1n : 0n
      default:
        return 0n
    }
  }

  store(offset: number, size: AccessSize, value: bigint): boolean {
    if (size !== 4) return false
    switch (offset) {
      case 0x00:
        this.#setByGuest((this.wallClockNs & ~lowWord) | value)
        break
      case 0x04:
        this.#setByGuest((this.wallClockNs & lowWord) | (value << 32n))
        break
      case 0x08:
        this.#alarm = (this.#alarm & ~lowWord) | value
        break
      case 0x0c:
        this.#alarm = (this.#alarm & lowWord) | (value << 32n)
        break
      case 0x10:
        this.#interruptEnabled = (value & 1n) !== 0n
        break
      case 0x14:
        this.#alarm = 0n
        break
    }
    return true
  }

  reset(): void {
    this.#originNs = 0n
    this.#anchor = undefined
    this.#bootReadingsEnd = undefined
    this.#latchedHigh = 0n
    this.#alarm = 0n
    this.#interruptEnabled = false
  }

  saveState(writer: ByteWriter): void {
    const anchor = this.#anchor
    writer
      .bool(anchor !== undefined)
      .u64(anchor?.wallClockNs ?? 0n)
      .u64(anchor?.ticks ?? 0n)
      .bool(this.#bootReadingsEnd !== undefined)
      .u64(this.#bootReadingsEnd ?? 0n)
    writer.u64(this.#originNs).u64(this.#latchedHigh).u64(this.#alarm).bool(this.#interruptEnabled)
  }

  loadState(reader: ByteReader): void {
    const hasAnchor = reader.bool()
    const anchor = { wallClockNs: reader.u64(), ticks: reader.u64() }
    this.#anchor = hasAnchor ? anchor : undefined
    const wasRead = reader.bool()
    const bootReadingsEnd = reader.u64()
    this.#bootReadingsEnd = wasRead ? bootReadingsEnd : undefined
    this.#originNs = reader.u64()
    this.#latchedHigh = reader.u64()
    this.#alarm = reader.u64()
    this.#interruptEnabled = reader.bool()
  }
}
