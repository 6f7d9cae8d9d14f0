/**
 * The gateway between the LAN and the host's TCP ports: passt, as a child process on a plain port of the switch.
 *
 * passt holds the outside end of every TCP connection in its process. It stands beside the switch, outside both
 * replicas, so a client's connection survives the primary: to passt a failover is a guest that was silent for a moment,
 * and to the client it is nothing at all. Its retransmission timer is 2 s, which is why the switch keeps and re-delivers
 * frames instead of leaving the repair to TCP.
 *
 * passt listens on a unix socket in a folder of its own, and we connect as QEMU would. Its `--fd` (a socket pair) would
 * be simpler, but the passt of Debian 12 enlarges the send buffer (up to net.core.wmem_max) of accepted sockets only; with 208 KiB it
 * drops most of every burst and sends whole windows again (20 MB echoed: 450,000 frames instead of 28,000). `--one-off`
 * makes it end by itself when our end is closed, even by SIGKILL.
 *
 * A client that gives up before the guest has answered costs a core for 10 s: passt hears of the end again and again, and acts
 * on it only when its time-out for the guest's answer ends the connection. Nothing on our side of its wire tells of it.
 *
 * passt serves one station. It takes the last sender for its guest, so its port is private to one machine.
 */

import { chmod, chown, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { assert, WorldError } from '../base/assert.ts'
import { connectTo } from '../net/connect.ts'
import { listenOn } from '../net/listen.ts'
import { encodeArpRequest, encodeEmptyPacket, isArpReplyFrom, type Mac, parseIpv4 } from './frame.ts'
import { PasstProcess } from './passt-process.ts'
import { PlainPort } from './plain-port.ts'
import { HandshakeFinisher } from './tcp-handshake.ts'

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

/** The arguments for passt. */
export function passtArguments(options: GatewayOptions, socketPath: string): string[] {
  const forwards = options.forwards.flatMap(({ hostAddress = '127.0.0.1', hostPort, guestPort }) => [
    '--tcp-ports',
    `${hostAddress}/${hostPort}:${guestPort}`,
  ])
  return [
    '--foreground',
    '--quiet',
    '--ipv4-only',
    '--one-off',
    '--socket',
    socketPath,
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
  /** Hears everything that passes the port. */
  readonly handshakes: HandshakeFinisher
  readonly processId: number
  close(): Promise<void>
}

/** Starts passt and waits until it answers on its wire. `onLost` is called when it ends by itself later. */
export async function startGateway(
  options: GatewayOptions,
  guestMac: Mac,
  onLost: (error: WorldError) => void,
): Promise<Gateway> {
  const folder = await makeSocketFolder()
  try {
    return await startIn(folder, options, guestMac, onLost)
  } finally {
    // The socket is connected, or will never be: its name has served.
    await rm(folder, { recursive: true, force: true })
  }
}

/** The group of the user `nobody`, to whom passt changes when root starts it. */
const nobodyGroupId = 65_534

/**
 * Where passt makes its socket: as `nobody` in Debian 12's version, still as root (without root's power over foreign
 * folders) in Debian 13's. So the folder is root's, and writable for the group.
 */
async function makeSocketFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'understudy-passt-'))
  if (process.getuid?.() !== 0) return folder
  try {
    await chown(folder, 0, nobodyGroupId)
    await chmod(folder, 0o770)
  } catch {
    // In a user namespace without that group passt stays who it is.
  }
  return folder
}

async function startIn(
  folder: string,
  options: GatewayOptions,
  guestMac: Mac,
  onLost: (error: WorldError) => void,
): Promise<Gateway> {
  const guestAddress = parseIpv4(options.guestAddress ?? defaultGuestAddress)
  const gatewayAddress = parseIpv4(options.gatewayAddress ?? defaultGatewayAddress)
  const path = join(folder, 'socket')
  const passt = await PasstProcess.start(options.passtPath ?? 'passt', passtArguments(options, path))
  const answered = Promise.withResolvers<void>()
  let isAnswered = false
  const onFrame = (frame: Uint8Array): void => {
    if (!isArpReplyFrom(frame, gatewayAddress)) return
    isAnswered = true
    answered.resolve()
  }
  let port: PlainPort | undefined
  let isClosing = false
  const close = async (): Promise<void> => {
    isClosing = true
    port?.close()
    await passt.stop()
  }
  // An answered ARP request says that passt is configured, has its ports, and runs its loop. It also tells passt the
  // guest's MAC before the guest has said a word. The empty packet tells it the guest's address: on a host without a
  // default route, Debian 13's passt would else use a link-local one for the guest, whatever `--address` says.
  const deadlineMs = performance.now() + startTimeoutMs
  try {
    while (!isAnswered) {
      if (passt.hasEnded) throw await describeFailure(passt, options.forwards)
      if (performance.now() > deadlineMs) {
        throw new WorldError('gateway-failed', `passt does not answer within ${startTimeoutMs / 1000} s`)
      }
      const socket = port
        ? undefined
        : await connectTo({ address: { path } }, { purpose: 'passt' }).catch(() => undefined)
      if (socket) port = new PlainPort(socket, { onFrame, onClosed: () => {} })
      port?.send(encodeEmptyPacket(guestMac, guestAddress, gatewayAddress))
      port?.send(encodeArpRequest(guestMac, guestAddress, gatewayAddress))
      await Promise.race([answered.promise, passt.ended, setTimeout(probeIntervalMs)])
    }
    assert(port, 'the answer came through the port')
  } catch (error) {
    await close()
    throw error
  }
  void passt.ended.then(() => {
    if (!isClosing) onLost(new WorldError('gateway-lost', `passt ended: ${passt.lastWords}`))
  })
  const handshakes = new HandshakeFinisher(guestMac, gatewayAddress)
  return { port, handshakes, processId: passt.processId, close }
}

async function describeFailure(passt: PasstProcess, forwards: readonly PortForward[]): Promise<WorldError> {
  if (passt.said(/no external.*routable interface|no routable interface|External interface not usable/i)) {
    return new WorldError(
      'no-route',
      'passt needs a network interface with a default route, and this host has none: connect it, or, if it has no network at all, run `ip route add default dev lo`',
    )
  }
  if (passt.said(/failed to bind|address already in use|permission denied/i)) {
    const unusable = await firstUnusable(forwards)
    if (unusable) return unusable
  }
  return new WorldError('gateway-failed', `passt did not start: ${passt.lastWords}`)
}

/** passt names the option that failed, not the reason. We try each port ourselves and say why. */
async function firstUnusable(forwards: readonly PortForward[]): Promise<WorldError | undefined> {
  for (const { hostAddress = '127.0.0.1', hostPort } of forwards) {
    const server = createServer()
    try {
      await listenOn(server, { host: hostAddress, port: hostPort }, 'forwarded')
      await new Promise((resolve) => server.close(resolve))
    } catch (error) {
      if (error instanceof WorldError) return error
      throw error
    }
  }
  return undefined
}
