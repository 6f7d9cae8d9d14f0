import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'

/** Waits for what must come true: long, for the machine may be busy. */
export async function becomesTrue(
  what: string,
  condition: () => boolean | Promise<boolean>,
  withinMs = 240_000,
): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `${what}: not within ${withinMs / 1000} s`)
    await sleep(50)
  }
}
