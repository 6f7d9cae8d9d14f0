/**
 * How commands talk to a running process: one JSON request and one JSON answer per line, on a unix socket in the VM's
 * folder. A question, never a stream: whoever watches asks again.
 */

import { createConnection, createServer, type Server } from 'node:net'
import { WorldError } from '../base/assert.ts'
import { listenOn } from '../net/listen.ts'
import { onLines } from './socket-lines.ts'

export type ControlHandler = (command: string, body: unknown) => Promise<unknown> | unknown

/** More than any paste into a console, and than any status. */
const maxLineBytes = 1024 * 1024

/** Questions of one connection without an answer yet, and answers that it has not taken: nobody needs more. */
const maxOpenQuestions = 64
const maxUnsentBytes = 4 * 1024 * 1024

/** Bigints travel as decimal strings. */
function toJson(value: unknown): string {
  return JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? item.toString() : item))
}

async function answerTo(line: string, handler: ControlHandler): Promise<object> {
  try {
    const { command, body } = JSON.parse(line) as { command: string; body: unknown }
    return { answer: (await handler(command, body)) ?? null }
  } catch (error) {
    return { error: (error as Error).message }
  }
}

/** @param takesPlace whoever listens there has lost the place */
export async function listenForControl(path: string, handler: ControlHandler, takesPlace = false): Promise<Server> {
  const server = createServer((socket) => {
    let open = 0
    socket.on('error', () => socket.destroy())
    onLines(socket, maxLineBytes, (line) => {
      if (++open > maxOpenQuestions || socket.writableLength > maxUnsentBytes) socket.destroy()
      if (socket.destroyed) return
      void answerTo(line, handler).then((answer) => {
        open--
        if (socket.writable) socket.write(`${toJson(answer)}\n`)
      })
    })
  })
  await listenOn(server, { path }, 'control', takesPlace)
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
    onLines(socket, maxLineBytes, (line) => {
      const reply = parseReply<Answer>(line) ?? { error: `${path} gave an answer that makes no sense` }
      finish(() => ('answer' in reply ? resolve(reply.answer) : reject(new WorldError('control-refused', reply.error))))
    })
    socket.write(`${toJson({ command, body })}\n`)
  })
}

function parseReply<Answer>(line: string): { answer: Answer } | { error: string } | undefined {
  try {
    const reply: unknown = JSON.parse(line)
    const isReply = typeof reply === 'object' && reply !== null && ('answer' in reply || 'error' in reply)
    return isReply ? (reply as { answer: Answer } | { error: string }) : undefined
  } catch {
    return undefined
  }
}
