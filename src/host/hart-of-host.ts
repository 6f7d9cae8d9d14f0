/**
 * A hart with the real world around it: this host's clock, its randomness, and cells that other threads read. Whoever gives it its turns
 * (hart-thread.ts, hart-in-place.ts), this is the one place where the machine meets them: they become log entries
 * (replica/live-hart.ts) before the machine sees them.
 */

import { getRandomValues } from 'node:crypto'
import { createEngine } from '../engine/wasm-engine.ts'
import { logIndex } from '../log/entry.ts'
import { type CreateEngine, createMachine } from '../machine/machine.ts'
import { HartDriver } from '../replica/hart-driver.ts'
import type { HartPolicy, HartWorld } from '../replica/hart-world.ts'
import { collectGarbage } from './collect-garbage.ts'
import { DelayHistogram } from './delay-histogram.ts'
import { type HartSettings, nobodyAcknowledges, progressCell } from './hart-messages.ts'
import { adviseLargePages } from './large-pages.ts'
import { Profiler } from './profiler.ts'

export interface HartOfHost {
  readonly driver: HartDriver
  /** Of a hart that is profiled. */
  readonly profiler: Profiler | undefined
  /** Call when a turn begins: the hart's watch counts them. */
  countTurn(): void
}

/** @param runner what depends on who gives the hart its turns */
export function createHartOfHost(
  settings: HartSettings,
  policy: HartPolicy,
  runner: Pick<HartWorld, 'post' | 'isRung'>,
): HartOfHost {
  const { discipline, digestEveryMs, leavesOutReads, config, image, mode, isProfiled } = settings
  const progress = new BigInt64Array(settings.progress)
  const frameDelays = new DelayHistogram(settings.frameDelays)
  const world: HartWorld = {
    ...runner,
    policy,
    discipline,
    digestEveryMs,
    leavesOutReads,
    nowNs: () => process.hrtime.bigint(),
    wallClockNs: () => BigInt(Date.now()) * 1_000_000n,
    randomBytes: (lengthBytes) => getRandomValues(new Uint8Array(lengthBytes)),
    showProgress(of) {
      Atomics.store(progress, progressCell.instructions, of.count)
      Atomics.store(progress, progressCell.ticks, of.ticks)
      Atomics.store(progress, progressCell.powerButtonDriver, of.hasPowerButtonDriver ? 1n : 0n)
    },
    showDigestsCompared: (digests) => void Atomics.store(progress, progressCell.digestsCompared, digests),
    onFrameEntered: (delayNs) => frameDelays.add(delayNs),
    acknowledgedEnd() {
      const end = Atomics.load(progress, progressCell.acknowledgedEnd)
      return end === nobodyAcknowledges ? undefined : logIndex(end)
    },
  }
  const translation = settings.engine === 'interpret' ? 'off' : { collectGarbage }
  const profiler = isProfiled ? new Profiler(translation) : undefined
  const createOwnEngine: CreateEngine = ({ ramBytes, bus }) => createEngine({ ramBytes, bus, translation })
  const machine = createMachine(config, image, (parts) => {
    const engine = (profiler?.createEngine ?? createOwnEngine)(parts)
    // Before any of it is touched: guest RAM, and what the engine keeps beside it. Without large pages it is only slower.
    adviseLargePages(new Uint8Array(engine.ram.buffer))
    return engine
  })
  return {
    driver: new HartDriver(machine, mode, world),
    profiler,
    countTurn: () => void Atomics.add(progress, progressCell.turns, 1n),
  }
}
