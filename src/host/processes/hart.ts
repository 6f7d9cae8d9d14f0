/**
 * The hart's thread: a machine that a `HartDriver` drives as fast as it goes. Nothing is awaited: the thread looks at its
 * doorbell between slices, and sleeps on it when the guest waits (WFI), when the log has nothing more to replay, and while it
 * is paused. Whoever answers somebody goes before it (thread-priorities.ts).
 */

import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { defaultHartPolicy } from '../../replica/hart-world.ts'
import type { FromHartThread, HartThreadSettings, ToHartThread } from '../hart-messages.ts'
import { createHartOfHost } from '../hart-of-host.ts'
import { computeBehindOthers } from '../thread-priorities.ts'

computeBehindOthers()

const settings = workerData as HartThreadSettings
const port = parentPort as MessagePort
const doorbell = new Int32Array(settings.doorbell)
const resting = new Int32Array(new SharedArrayBuffer(4))
/** The doorbell's count when the present turn began. */
let rung = 0
let isStopped = false

function post(message: FromHartThread, transfer: readonly ArrayBuffer[] = []): void {
  port.postMessage(message, [...transfer])
}

const isRung = (): boolean => Atomics.load(doorbell, 0) !== rung
const { driver, profiler, countTurn } = createHartOfHost(settings, defaultHartPolicy, { post, isRung })

function drainMessages(): void {
  for (let received = receiveMessageOnPort(port); received; received = receiveMessageOnPort(port)) {
    const message = received.message as ToHartThread
    if (message.kind === 'stop') isStopped = true
    else if (message.kind === 'fault') fail(message.fault)
    else driver.onMessage(message)
  }
}

/** Fault trials: what a bug of ours could do to this thread. */
function fail(fault: 'die' | 'hang'): void {
  if (fault === 'die') throw new Error('a fault was injected')
  Atomics.wait(resting, 0, 0)
}

for (;;) {
  rung = Atomics.load(doorbell, 0)
  countTurn()
  drainMessages()
  if (isStopped) break
  const turn = driver.turn()
  if (turn === 'again') continue
  if ('restNs' in turn) {
    Atomics.wait(resting, 0, 0, Number(turn.restNs) / 1e6)
  } else if (turn.sleepUntilNs === undefined) {
    Atomics.wait(doorbell, 0, rung)
  } else {
    const sleepNs = turn.sleepUntilNs - process.hrtime.bigint()
    if (sleepNs > 0n) Atomics.wait(doorbell, 0, rung, Number(sleepNs) / 1e6)
  }
}
if (profiler) post({ kind: 'profile', profile: profiler.profile })
port.close()
