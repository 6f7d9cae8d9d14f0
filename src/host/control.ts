/**
 * How commands talk to a running process: one JSON request and one JSON answer per line, on a unix socket in the VM's
 * folder. A question, never a stream: whoever watches asks again.
 */

import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { createInterface, type Interface } from 'node:readline'
import { WorldError } from '../base/assert.ts'
import { listenOn } from '../net/listen.ts'

export type ControlHandler = (command: string, body: unknown) => Promise<unknown> | unknown

/** The socket's errors are the socket's business; a line reader repeats them, and would crash on them unheard. */
function linesOf(socket: Socket): Interface {
  return createInterface({ input: socket }).on('error', () => {})
}

/** Bigints travel as decimal strings. */
function toJson(value: unknown): string {
  return JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? item.toString() : item))
}

export async function listenForControl(path: string, handler: ControlHandler): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    linesOf(socket).on('line', async (line) => {
      try {
        const { command, body } = JSON.parse(line) as { command: string; body: unknown }
        socket.write(`${toJson({ answer: (await handler(command, body)) ?? null })}\n`)
      } catch (error) {
        socket.write(`${toJson({ error: (error as Error).message })}\n`)
      }
    })
  })
  await listenOn(server, { path }, 'control')
  return server
}

/**
 * The control socket of a process that surrounds the replicas: `status` answers the process id and what `status` says;
 * `stop` closes the socket, answers, and ends the process with 0 after `close`.
 */
export async function listenForStatusAndStop(
  path: string,
  status: () => object,
  close: () => Promise<void> | void,
): Promise<void> {
  const control = await listenForControl(path, (command) => {
    if (command === 'status') return { pid: process.pid, ...status() }
    if (command === 'stop') {
      control.close()
      setImmediate(async () => {
        await close()
        process.exit(0)
      })
      return {}
    }
    throw new Error(`unknown command ${command}`)
  })
}

/**
 * Asks a process one thing.
 * @returns undefined when nobody listens there (the process is gone), or it does not answer within `timeoutMs`
 * @throws WorldError `control-refused` with the process's own sentence
 */
export function ask<Answer>(
  path: string,
  command: string,
  body: unknown = {},
  timeoutMs = 5000,
): Promise<Answer | undefined> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path)
    const giveUp = setTimeout(() => {
      socket.destroy()
      resolve(undefined)
    }, timeoutMs)
    const finish = (act: () => void): void => {
      clearTimeout(giveUp)
      socket.destroy()
      act()
    }
    socket.on('error', () => finish(() => resolve(undefined)))
    socket.on('close', () => finish(() => resolve(undefined)))
    linesOf(socket).once('line', (line) => {
      const reply = JSON.parse(line) as { answer: Answer } | { error: string }
      finish(() => ('answer' in reply ? resolve(reply.answer) : reject(new WorldError('control-refused', reply.error))))
    })
    socket.write(`${toJson({ command, body })}\n`)
  })
}
