/**
 * The faults, one row each: what it does to a protected VM under load, and what must be true afterwards. Everything that
 * is left to chance is drawn from the trial's seed.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import type { Prng } from '../../src/base/prng.ts'
import type { FaultyVm } from './faulty-vm.ts'

export interface FaultKind {
  readonly name: string
  /**
   * What is left of the replicas: `both`, or as many as there are, still protected; `one` less than before, alone if that is
   * one; `none`: the VM must be started again.
   */
  readonly survivors: 'both' | 'one' | 'none'
  /** Connections end by nature: their end is inside what is killed. */
  readonly resetsConnections?: boolean
  /** It says something of a primary and its one backup: with several it would say something else. */
  readonly isOfPair?: boolean
  inject(vm: FaultyVm, prng: Prng): Promise<void>
}

const between = (prng: Prng, leastMs: number, mostMs: number): number => leastMs + prng.below(mostMs - leastMs)

/** Well above the failure detector's time-out: a shorter pause is no failure, and the pair stays together. */
const leastPauseMs = 3500

/** Longer than it takes to notice a loss of reach (1 s) and to act upon it (2 s): who does nothing by then does nothing. */
const longerThanPatienceMs = 5000

/** It stands still for longer than patience lasts, and then wakes. */
function replicaPaused(role: 'primary' | 'backup'): FaultKind {
  return {
    name: `${role}-paused`,
    survivors: 'one',
    async inject(vm, prng) {
      const pid = await vm.signal(role, 'SIGSTOP')
      await sleep(between(prng, leastPauseMs, 6000))
      process.kill(pid, 'SIGCONT')
    },
  }
}

/** In an order that needs few boots: faults that leave the VM protected come before one that does not. */
export const faultKinds: readonly FaultKind[] = [
  {
    name: 'disk-server-killed',
    survivors: 'both',
    async inject(vm, prng) {
      await vm.killSurrounding('disk')
      await sleep(between(prng, 0, 2000))
      await vm.repair()
      await vm.mustRefuseStart()
    },
  },
  {
    name: 'backup-out-of-reach',
    survivors: 'both',
    // Disk server and LAN, one after the other: the backup stays what it is.
    async inject(vm) {
      for (const part of ['disk', 'lan'] as const) {
        await vm.fault('backup', { kind: 'cutReach', of: part })
        await vm.mustReach('backup', { [part]: false })
        await sleep(longerThanPatienceMs)
        await vm.fault('backup', { kind: 'mendReach', of: part })
        await vm.mustReach('backup', { disk: true, lan: true })
      }
    },
  },
  {
    name: 'surroundings-frozen',
    survivors: 'both',
    // Neither replica reaches them: that is no reason to take over.
    async inject(vm, prng) {
      for (const part of ['disk', 'lan'] as const) {
        const pid = await vm.signalSurrounding(part, 'SIGSTOP')
        await vm.mustReach('backup', { [part]: false })
        await vm.mustReach('primary', { [part]: false })
        await sleep(longerThanPatienceMs)
        process.kill(pid, 'SIGCONT')
        await sleep(between(prng, 0, 1000))
      }
    },
  },
  {
    name: 'lan-killed',
    survivors: 'both',
    resetsConnections: true,
    async inject(vm, prng) {
      await vm.killSurrounding('lan')
      await sleep(between(prng, 0, 2000))
      await vm.repair()
    },
  },
  {
    name: 'primary-killed',
    survivors: 'one',
    async inject(vm) {
      await vm.signal('primary', 'SIGKILL')
    },
  },
  replicaPaused('primary'),
  {
    name: 'channel-cut',
    survivors: 'one',
    async inject(vm) {
      await vm.fault('backup', { kind: 'cutChannel', direction: 'both' })
    },
  },
  {
    name: 'both-killed',
    survivors: 'none',
    resetsConnections: true,
    // Half of the time disk server and LAN go with them, as when a host crashes.
    async inject(vm, prng) {
      if (prng.chance(0.5)) await vm.killAll()
      else await vm.killBoth()
    },
  },
  {
    name: 'backup-killed',
    survivors: 'one',
    async inject(vm) {
      await vm.signal('backup', 'SIGKILL')
    },
  },
  {
    name: 'primary-lan-out-of-reach',
    survivors: 'one',
    async inject(vm) {
      await vm.fault('primary', { kind: 'cutReach', of: 'lan' })
      await vm.mustTakeOver()
    },
  },
  {
    name: 'primary-disk-out-of-reach',
    survivors: 'one',
    async inject(vm) {
      await vm.fault('primary', { kind: 'cutReach', of: 'disk' })
      await vm.mustTakeOver()
    },
  },
  replicaPaused('backup'),
  {
    name: 'primary-hart-hangs',
    survivors: 'one',
    async inject(vm) {
      await vm.fault('primary', { kind: 'hart', fault: 'hang' })
    },
  },
  {
    name: 'arbiter-answer-lost',
    survivors: 'one',
    isOfPair: true,
    // The backup's question arrives and is granted; it hears nothing, and asks again.
    async inject(vm) {
      const pid = await vm.pidOf('primary')
      await vm.fault('backup', { kind: 'loseArbiterAnswers' })
      process.kill(pid, 'SIGKILL')
      await vm.mustTakeOver(2)
    },
  },
  {
    name: 'arbiter-out-of-reach',
    survivors: 'one',
    isOfPair: true,
    // For both, when they part: neither goes on before it is back.
    async inject(vm, prng) {
      const disk = await vm.signalSurrounding('disk', 'SIGSTOP')
      await vm.fault('backup', { kind: 'cutChannel', direction: 'both' })
      await vm.mustBothWait(between(prng, 3000, 6000))
      process.kill(disk, 'SIGCONT')
    },
  },
  {
    name: 'channel-cut-one-way',
    survivors: 'one',
    async inject(vm, prng) {
      await vm.fault('backup', { kind: 'cutChannel', direction: prng.chance(0.5) ? 'in' : 'out' })
    },
  },
  {
    name: 'backup-hart-fails',
    survivors: 'one',
    async inject(vm, prng) {
      await vm.fault('backup', { kind: 'hart', fault: prng.chance(0.5) ? 'hang' : 'die' })
    },
  },
  {
    name: 'primary-hart-dies',
    survivors: 'one',
    async inject(vm) {
      await vm.fault('primary', { kind: 'hart', fault: 'die' })
    },
  },
  {
    name: 'disk-server-and-primary-killed',
    survivors: 'one',
    async inject(vm, prng) {
      await vm.killSurrounding('disk')
      await sleep(between(prng, 0, 300))
      await vm.signal('primary', 'SIGKILL')
      await sleep(between(prng, 0, 2000))
      await vm.repair()
    },
  },
  {
    name: 'lan-and-primary-killed',
    survivors: 'one',
    resetsConnections: true,
    // The backup goes live without a switch, or in the moment it comes back.
    async inject(vm, prng) {
      await vm.killSurrounding('lan')
      await sleep(between(prng, 0, 300))
      await vm.signal('primary', 'SIGKILL')
      await sleep(between(prng, 0, 2000))
      await vm.repair()
    },
  },
]
