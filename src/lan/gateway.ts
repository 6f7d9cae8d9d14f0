/**
 * The gateway between the LAN and the host's TCP ports: passt, as a child process on a plain port of the switch.
 *
 * passt holds the outside end of every TCP connection in its process. It stands beside the switch, outside both
 * replicas, so a client's connection survives the primary: to passt a failover is a guest that was silent for a moment,
 * and to the client it is nothing at all. Its retransmission timer is 2 s, which is why the switch keeps and re-delivers
 * frames instead of leaving the repair to TCP.
 *
 * The two are connected by a socket pair (`--fd`), not by a socket file: no path, no permission to get wrong when passt,
 * started as root, changes to the user nobody; and passt ends by itself when our end is closed, even by SIGKILL.
 *
 * passt serves one station. It takes the last sender for its guest, so its port is private to one machine.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { createServer, type Socket } from 'node:net'
import { assert, ExitCode, WorldError } from '../base/assert.ts'
import { encodeArpRequest, isArpReplyFrom, type Mac, parseIpv4 } from './frame.ts'
import { describeListenError, listenOn } from './listen.ts'
import { PlainPort } from './plain-port.ts'

export interface PortForward {
  /** Default 127.0.0.1. Beyond loopback the whole network can connect: say so in the config, knowingly. */
  readonly hostAddress?: string
  readonly hostPort: number
  readonly guestPort: number
}

export interface GatewayOptions {
  /** The machine behind the gateway; may be left out when there is one only. */
  readonly machine?: string
  /** Path or name of passt's program. Default `passt`, found through PATH. */
  readonly passtPath?: string
  readonly forwards: readonly PortForward[]
  /** The guest's IPv4 address, which passt offers by DHCP and forwards to. Default 10.0.2.15. */
  readonly guestAddress?: string
  /** Default 24. */
  readonly netmaskBits?: number
  /** passt's own address, the guest's default gateway. Default 10.0.2.2. */
  readonly gatewayAddress?: string
}

export const defaultGuestAddress = '10.0.2.15'
export const defaultGatewayAddress = '10.0.2.2'
export const defaultNetmaskBits = 24

/** The gateway's MAC, fixed so that a guest sees the same neighbour on every host. (Locally administered.) */
const gatewayMac = '52:55:0a:00:02:02'

/** passt starts in about 20 ms; a loaded host may need more. */
const startTimeoutMs = 10_000
const probeIntervalMs = 20

/** The arguments for passt. Its descriptor 3 is our socket. */
export function passtArguments(options: GatewayOptions): string[] {
  const forwards = options.forwards.flatMap(({ hostAddress = '127.0.0.1', hostPort, guestPort }) => [
    '--tcp-ports',
    `${hostAddress}/${hostPort}:${guestPort}`,
  ])
  return [
    '--foreground',
    '--quiet',
    '--ipv4-only',
    '--fd',
    '3',
    '--address',
    options.guestAddress ?? defaultGuestAddress,
    '--netmask',
    String(options.netmaskBits ?? defaultNetmaskBits),
    '--gateway',
    options.gatewayAddress ?? defaultGatewayAddress,
    '--mac-addr',
    gatewayMac,
    '--mtu',
    '1500',
    // The guest must not reach what listens on this host's loopback (our disk server, for one).
    '--no-map-gw',
    '--udp-ports',
    'none',
    ...(forwards.length > 0 ? forwards : ['--tcp-ports', 'none']),
  ]
}

export interface Gateway {
  readonly port: PlainPort
  readonly processId: number
  close(): Promise<void>
}

/** Starts passt and waits until it answers on its wire. `onLost` is called when it ends by itself later. */
export async function startGateway(
  options: GatewayOptions,
  guestMac: Mac,
  onLost: (error: WorldError) => void,
): Promise<Gateway> {
  const guestAddress = parseIpv4(options.guestAddress ?? defaultGuestAddress)
  const gatewayAddress = parseIpv4(options.gatewayAddress ?? defaultGatewayAddress)
  const passtPath = options.passtPath ?? 'passt'
  const child = await spawnPasst(passtPath, passtArguments(options))
  const talk = new PasstTalk(child)
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const socket = child.stdio[3] as Socket | null
  assert(socket, 'descriptor 3 of passt is our socket')

  const ready = Promise.withResolvers<void>()
  const port = new PlainPort(socket, {
    onFrame: (frame) => {
      if (isArpReplyFrom(frame, gatewayAddress)) ready.resolve()
    },
    onClosed: () => {},
  })
  // An answered ARP request says that passt is configured, has its ports, and runs its loop. It also tells passt the
  // guest's MAC before the guest has said a word.
  const probe = (): void => port.send(encodeArpRequest(guestMac, guestAddress, gatewayAddress))
  const probing = setInterval(probe, probeIntervalMs)
  probe()
  const timer = setTimeout(() => {
    ready.reject(new WorldError('gateway-failed', `passt does not answer within ${startTimeoutMs / 1000} s`))
  }, startTimeoutMs)
  void exited.then(async () => ready.reject(await describeFailure(talk, child, options.forwards)))

  let isClosing = false
  const close = async (): Promise<void> => {
    isClosing = true
    port.close()
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    await exited
  }
  try {
    await ready.promise
  } catch (error) {
    await close()
    throw error
  } finally {
    clearInterval(probing)
    clearTimeout(timer)
  }
  void exited.then(() => {
    if (!isClosing) onLost(new WorldError('gateway-lost', `passt ended: ${talk.lastLine ?? howItEnded(child)}`))
  })
  return { port, processId: child.pid!, close }
}

function spawnPasst(passtPath: string, args: readonly string[]): Promise<ChildProcess> {
  return new Promise((resolve, reject) => {
    const child = spawn(passtPath, args, { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] })
    child.once('error', (error) => reject(describeSpawnError(passtPath, error)))
    child.once('spawn', () => resolve(child))
  })
}

function describeSpawnError(passtPath: string, error: Error): WorldError {
  const code = 'code' in error ? String(error.code) : error.message
  if (code === 'ENOENT') {
    return new WorldError(
      'passt-missing',
      `"${passtPath}" is not there: install Debian's package passt (apt install passt), the gateway to the host's ports`,
    )
  }
  return new WorldError('passt-missing', `cannot start "${passtPath}" (${code}): is it a program for this host?`)
}

/** What passt says on stderr, by line, without its complaints about a missing syslog. */
class PasstTalk {
  readonly #lines: string[] = []
  #rest = ''

  constructor(child: ChildProcess) {
    child.stderr!.setEncoding('utf8')
    child.stderr!.on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n')
      this.#rest = lines.pop()!.slice(-1000)
      for (const line of lines) this.#add(line)
    })
  }

  #add(line: string): void {
    const text = line.replace(/^\d+\.\d+:\s*/, '').trim()
    if (text === '' || /to syslog$|Don't run as root|^Started as root/.test(text)) return
    this.#lines.push(text)
    if (this.#lines.length > 20) this.#lines.shift()
  }

  get lastLine(): string | undefined {
    return this.#lines.at(-1)
  }

  says(pattern: RegExp): boolean {
    return this.#lines.some((line) => pattern.test(line))
  }
}

function howItEnded(child: ChildProcess): string {
  return child.signalCode ? `signal ${child.signalCode}` : `exit code ${child.exitCode}`
}

async function describeFailure(
  talk: PasstTalk,
  child: ChildProcess,
  forwards: readonly PortForward[],
): Promise<WorldError> {
  if (talk.says(/no external.*routable interface|no routable interface|External interface not usable/i)) {
    return new WorldError(
      'no-route',
      'passt needs a network interface with a default route, and this host has none: connect it, or, if it has no network at all, run `ip route add default dev lo`',
    )
  }
  if (talk.says(/failed to bind|address already in use|permission denied/i)) {
    const busy = await firstUnusable(forwards)
    if (busy) return busy
  }
  return new WorldError(
    'gateway-failed',
    `passt did not start: ${talk.lastLine ?? howItEnded(child)}`,
    ExitCode.failure,
  )
}

/** passt names the option that failed, not the reason. We try each port ourselves and say why. */
async function firstUnusable(forwards: readonly PortForward[]): Promise<WorldError | undefined> {
  for (const { hostAddress = '127.0.0.1', hostPort } of forwards) {
    const server = createServer()
    try {
      await listenOn(server, { host: hostAddress, port: hostPort })
      await new Promise((resolve) => server.close(resolve))
    } catch (error) {
      return error instanceof WorldError ? error : describeListenError(error, { host: hostAddress, port: hostPort })
    }
  }
  return undefined
}
