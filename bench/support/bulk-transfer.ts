/**
 * Bulk data through a guest's network card, as netperf's streams do: values of Redis, set (the guest receives) or got (it
 * transmits), one after the other on one connection, the next always under way. Redis itself does little with them; its
 * append-only file is switched off meanwhile, else the disk would be measured.
 */

import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { MiB } from '../../src/base/units.ts'
import { RedisConnection } from '../../src/host/redis-load.ts'

const valueBytes = 2 * MiB
const underWay = 2
const key = 'bulk'

export type Direction = 'receive' | 'transmit'

export interface BulkTransfer {
  readonly bytes: number
  readonly seconds: number
}

function requestOf(direction: Direction): Buffer {
  if (direction === 'transmit') return Buffer.from(`GET ${key}\r\n`)
  const value = Buffer.alloc(valueBytes, 'x')
  return Buffer.concat([
    Buffer.from(`*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n$${valueBytes}\r\n`),
    value,
    Buffer.from('\r\n'),
  ])
}

/** Length of the answer to each request. */
function answerBytes(direction: Direction): number {
  return direction === 'receive' ? '+OK\r\n'.length : `$${valueBytes}\r\n`.length + valueBytes + '\r\n'.length
}

async function setAppendOnly(port: number, isOn: boolean): Promise<void> {
  const connection = await RedisConnection.connect(port)
  if (isOn) await connection.command(`DEL ${key}`)
  await connection.command(`CONFIG SET appendonly ${isOn ? 'yes' : 'no'}`)
  connection.close()
}

/** Transfers for about so long, after a first value that is not counted. */
async function transfer(socket: Socket, direction: Direction, seconds: number): Promise<BulkTransfer> {
  const [request, answer] = [requestOf(direction), answerBytes(direction)]
  const finished = Promise.withResolvers<BulkTransfer>()
  let received = 0
  let answered = 0
  let startedAt = 0
  socket.on('error', finished.reject)
  socket.on('close', () => finished.reject(new Error('the guest closed the connection')))
  socket.on('data', (chunk) => {
    received += chunk.length
    const now = performance.now()
    for (; answered < Math.floor(received / answer); answered++) {
      if (answered === 0) startedAt = now
      else if (now - startedAt >= seconds * 1000) {
        finished.resolve({ bytes: answered * valueBytes, seconds: (now - startedAt) / 1000 })
        return
      }
      socket.write(request)
    }
  })
  for (let sent = 0; sent < underWay; sent++) socket.write(request)
  return await finished.promise
}

export async function runBulkTransfer(port: number, direction: Direction, seconds: number): Promise<BulkTransfer> {
  await setAppendOnly(port, false)
  const socket = createConnection({ port, host: '127.0.0.1' })
  try {
    await once(socket, 'connect')
    // What is got has to be there.
    if (direction === 'transmit') {
      socket.write(requestOf('receive'))
      await once(socket, 'data')
    }
    return await transfer(socket, direction, seconds)
  } finally {
    socket.destroy()
    await setAppendOnly(port, true)
  }
}
