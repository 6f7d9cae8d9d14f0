import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DetectorPolicy, defaultDetectorPolicy, FailureDetector } from './failure-detector.ts'

const policy: DetectorPolicy = { ...defaultDetectorPolicy, heartbeatMs: 500, timeoutMs: 800 }

/** Ticked when it says that it is due, and at no other time. */
function tickedUntil(detector: FailureDetector, endMs: number): { heartbeats: number[]; suspicions: string[] } {
  const heartbeats: number[] = []
  const suspicions: string[] = []
  for (let nowMs = detector.dueMs; nowMs < endMs && suspicions.length === 0; nowMs = detector.dueMs) {
    const suspicion = detector.suspicion(nowMs)
    if (suspicion) suspicions.push(`${suspicion} at ${nowMs}`)
    if (detector.isHeartbeatDue(nowMs)) {
      heartbeats.push(nowMs)
      detector.onSent(nowMs)
    }
    assert.ok(suspicion || detector.dueMs > nowMs, 'what was due is done')
  }
  return { heartbeats, suspicions }
}

test('four heartbeats fit into a time-out, however long their interval is said to be', () => {
  const detector = new FailureDetector(policy, 0)
  assert.deepEqual(tickedUntil(detector, 790).heartbeats, [200, 400, 600])
})

test('a silent peer is suspected at the very end of the time-out, without any other tick', () => {
  const detector = new FailureDetector(policy, 0)
  detector.onHeard(130)
  assert.deepEqual(tickedUntil(detector, 5000).suspicions, ['silent at 930'])
})

test('a peer that lives and owes an acknowledgement is suspected at the very end of the time-out', () => {
  const detector = new FailureDetector(policy, 0)
  detector.setOwes(true, 70)
  detector.onHeard(600)
  assert.deepEqual(tickedUntil(detector, 5000).suspicions, ['stalled at 870'])
})
