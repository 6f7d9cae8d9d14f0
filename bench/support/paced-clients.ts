/** Clients that send, wait for the answer, and pause a little, each on a connection of its own. */

import { setTimeout as sleep } from 'node:timers/promises'
import { RedisConnection } from '../../src/host/redis-load.ts'

const pauseMs = 1

/** @returns answers, of all of them together */
export async function runPacedClients(
  port: number,
  clients: number,
  seconds: number,
  command: string,
): Promise<number> {
  const end = performance.now() + seconds * 1000
  const client = async (): Promise<number> => {
    const connection = await RedisConnection.connect(port)
    let answers = 0
    while (performance.now() < end) {
      if ((await connection.command(command)) === undefined) throw new Error('the connection was closed')
      answers++
      await sleep(pauseMs)
    }
    connection.close()
    return answers
  }
  const answers = await Promise.all(Array.from({ length: clients }, client))
  return answers.reduce((sum, one) => sum + one, 0)
}
