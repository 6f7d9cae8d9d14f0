/**
 * A TAP interface of this host, attached to this process: whole Ethernet frames in and out, as if the process were what
 * is at the other end of the interface's cable. While nobody is attached the interface has no carrier.
 *
 *   kernel ── bridge ── tap0 ─┤ read, write: one frame each ├─ this process
 *
 * The interface is there before and after (`ip tuntap add`); we only attach, which needs no root if the interface is ours.
 * Nothing blocks: reads that find nothing say so, and waiting is a poll(2) in a pool thread that a second descriptor can
 * end. A read that blocked would keep `process.exit()` from returning.
 *
 * It filters nothing and knows no addresses. See Linux, Documentation/networking/tuntap.rst, tun(4).
 */

import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import { constants as osConstants } from 'node:os'
import { assert, ExitCode, WorldError } from '../base/assert.ts'
import { maxFrameBytes } from '../lan/frame.ts'
import { type SystemCalls, systemCalls } from './system-calls.ts'

const devicePath = '/dev/net/tun'

/** Numbers of Linux's include/uapi/linux/if_tun.h, the same on x86-64 and arm64. */
const setInterface = 0x4004_54ca
const isTap = 0x0002
const noPacketInformation = 0x1000
/** struct ifreq: 16 bytes of name, then the flags; 40 bytes on 64-bit hosts. */
const requestBytes = 40
const flagsOffset = 16
const maxNameBytes = 15

/** struct pollfd: descriptor (4), wanted (2), found (2). */
const pollBytes = 8
const pollIn = 1

const eventFlags = 0o2000000 | constants.O_NONBLOCK // EFD_CLOEXEC, EFD_NONBLOCK

const { EBUSY, EPERM, EAGAIN, EINTR } = osConstants.errno

export class TapDevice {
  readonly name: string
  readonly #calls: SystemCalls
  readonly #descriptor: number
  /** Written once to end a poll. */
  readonly #wakeDescriptor: number
  readonly #buffer = new Uint8Array(maxFrameBytes)
  readonly #polled = new Uint8Array(2 * pollBytes)
  #isPolling = false
  #isClosed = false

  private constructor(name: string, calls: SystemCalls, descriptor: number) {
    this.name = name
    this.#calls = calls
    this.#descriptor = descriptor
    this.#wakeDescriptor = calls.eventfd(0, eventFlags)
    assert(this.#wakeDescriptor >= 0, 'an eventfd can be made')
    process.once('exit', this.#wake)
  }

  /**
   * Attaches to an interface that is there.
   * @throws WorldError `no-koffi`, `no-tun`, `tap-permission`, `no-interface`, `not-a-tap`, `tap-busy`: one line that says what to do
   */
  static async attach(name: string): Promise<TapDevice> {
    const calls = systemCalls()
    const descriptor = openTun()
    try {
      // Whoever may make interfaces would otherwise make one that leads nowhere.
      if (!interfaceNames().includes(name)) {
        throw new WorldError(
          'no-interface',
          `there is no network interface ${name} here: make it (as root) with "ip tuntap add dev ${name} mode tap user $USER", then "ip link set ${name} up"`,
          ExitCode.badConfiguration,
        )
      }
      const request = new Uint8Array(requestBytes)
      request.set(new TextEncoder().encode(name).subarray(0, maxNameBytes))
      new DataView(request.buffer).setUint16(flagsOffset, isTap | noPacketInformation, true)
      if (calls.ioctl(descriptor, setInterface, request) < 0) throw attachError(name, calls.errorNumber())
      return new TapDevice(name, calls, descriptor)
    } catch (error) {
      closeSync(descriptor)
      throw error
    }
  }

  /**
   * The next frame, or undefined when none waits.
   * @throws WorldError `tap-gone`: the interface has been removed
   */
  read(): Uint8Array | undefined {
    if (this.#isClosed) return undefined
    const lengthBytes = this.#calls.read(this.#descriptor, this.#buffer, this.#buffer.length)
    if (lengthBytes >= 0) return this.#buffer.slice(0, lengthBytes)
    const code = this.#calls.errorNumber()
    if (code === EAGAIN || code === EINTR) return undefined
    throw new WorldError('tap-gone', `network interface ${this.name} has been removed (error ${code})`)
  }

  /** False: the frame is lost, because the interface is down or gone. */
  write(frame: Uint8Array): boolean {
    return !this.#isClosed && this.#calls.write(this.#descriptor, frame, frame.length) === frame.length
  }

  /** Resolves when a frame waits, when the interface is gone, and when this device is closed. One call at a time. */
  waitForFrame(): Promise<void> {
    assert(!this.#isPolling, 'one wait at a time')
    if (this.#isClosed) return Promise.resolve()
    const view = new DataView(this.#polled.buffer)
    for (const [index, descriptor] of [this.#descriptor, this.#wakeDescriptor].entries()) {
      view.setInt32(index * pollBytes, descriptor, true)
      view.setInt16(index * pollBytes + 4, pollIn, true)
    }
    this.#isPolling = true
    return new Promise((resolve) => {
      this.#calls.poll(this.#polled, 2, -1, () => {
        this.#isPolling = false
        if (this.#isClosed) this.#release()
        resolve()
      })
    })
  }

  /** Detaches; the interface loses its carrier. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    process.off('exit', this.#wake)
    // A descriptor that a poll waits for is not closed under its feet.
    if (this.#isPolling) this.#wake()
    else this.#release()
  }

  readonly #wake = (): void => {
    const one = new Uint8Array(8)
    one[0] = 1
    this.#calls.write(this.#wakeDescriptor, one, one.length)
  }

  #release(): void {
    closeSync(this.#descriptor)
    closeSync(this.#wakeDescriptor)
  }
}

/** What stands in the way of attaching to any TAP on this host, with what to do; undefined when nothing does. */
export async function obstacleToTaps(): Promise<string | undefined> {
  try {
    systemCalls()
    closeSync(openTun())
    return undefined
  } catch (error) {
    if (error instanceof WorldError) return error.message
    throw error
  }
}

function openTun(): number {
  try {
    return openSync(devicePath, constants.O_RDWR | constants.O_NONBLOCK)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EACCES' || code === 'EPERM') {
      throw new WorldError(
        'tap-permission',
        `${devicePath} may not be opened by this user: as root, "chmod 0666 ${devicePath}"`,
        ExitCode.permission,
      )
    }
    throw new WorldError(
      'no-tun',
      `${devicePath} cannot be opened (${code}): as root, "modprobe tun"; a container needs "--device ${devicePath}"`,
      ExitCode.badConfiguration,
    )
  }
}

/** The network interfaces of this process's network namespace (/sys shows those of whoever mounted it). */
export function interfaceNames(): string[] {
  const lines = readFileSync('/proc/net/dev', 'utf8').split('\n').slice(2)
  return lines.flatMap((line) => /^\s*([^:\s]+):/.exec(line)?.[1] ?? [])
}

function attachError(name: string, code: number): WorldError {
  switch (code) {
    case EBUSY:
      return new WorldError(
        'tap-busy',
        `network interface ${name} is attached to another process: end it, or use another TAP`,
        ExitCode.wrongState,
      )
    case EPERM:
      return new WorldError(
        'tap-permission',
        `network interface ${name} belongs to another user: as root, "ip tuntap del dev ${name} mode tap" and "ip tuntap add dev ${name} mode tap user $USER"`,
        ExitCode.permission,
      )
    default:
      return new WorldError(
        'not-a-tap',
        `network interface ${name} is no TAP that we could attach to (error ${code}): make one (as root) with "ip tuntap add dev NAME mode tap user $USER"`,
        ExitCode.badConfiguration,
      )
  }
}
