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
   * What is left of the pair: `both` of them, still protected; `one`, exactly one, alone; `none`: the VM must be started
   * again.
   */
  readonly survivors: 'both' | 'one' | 'none'
  /** Connections end by nature: their end is inside what is killed. */
  readonly resetsConnections?: boolean
  inject(vm: FaultyVm, prng: Prng): Promise<void>
}

const between = (prng: Prng, leastMs: number, mostMs: number): number => leastMs + prng.below(mostMs - leastMs)

/** Well above the failure detector's time-out: a shorter pause is no failure, and the pair stays together. */
const leastPauseMs = 3500

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
  {
    name: 'primary-paused',
    survivors: 'one',
    async inject(vm, prng) {
      const pid = await vm.signal('primary', 'SIGSTOP')
      await sleep(between(prng, leastPauseMs, 6000))
      process.kill(pid, 'SIGCONT')
    },
  },
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
    async inject(vm) {
      await vm.killBoth()
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
    name: 'backup-paused',
    survivors: 'one',
    async inject(vm, prng) {
      const pid = await vm.signal('backup', 'SIGSTOP')
      await sleep(between(prng, leastPauseMs, 6000))
      process.kill(pid, 'SIGCONT')
    },
  },
  {
    name: 'primary-hart-hangs',
    survivors: 'one',
    async inject(vm) {
      await vm.fault('primary', { kind: 'hart', fault: 'hang' })
    },
  },
  {
    name: 'arbiter-frozen-primary-killed',
    survivors: 'one',
    // The question reaches the arbiter, which stands still; its answer goes to a connection that is long gone.
    async inject(vm, prng) {
      const disk = await vm.signalSurrounding('disk', 'SIGSTOP')
      await vm.signal('primary', 'SIGKILL')
      await sleep(between(prng, 2500, 4500))
      process.kill(disk, 'SIGCONT')
    },
  },
  {
    name: 'arbiter-frozen-channel-cut',
    survivors: 'one',
    async inject(vm, prng) {
      const disk = await vm.signalSurrounding('disk', 'SIGSTOP')
      await vm.fault('backup', { kind: 'cutChannel', direction: 'both' })
      await sleep(between(prng, 2500, 6000))
      process.kill(disk, 'SIGCONT')
    },
  },
  {
    name: 'channel-cut-to-backup',
    survivors: 'one',
    async inject(vm) {
      await vm.fault('backup', { kind: 'cutChannel', direction: 'in' })
    },
  },
  {
    name: 'channel-cut-to-primary',
    survivors: 'one',
    async inject(vm) {
      await vm.fault('backup', { kind: 'cutChannel', direction: 'out' })
    },
  },
  {
    name: 'backup-hart-hangs',
    survivors: 'one',
    async inject(vm) {
      await vm.fault('backup', { kind: 'hart', fault: 'hang' })
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
  {
    name: 'all-killed',
    survivors: 'none',
    resetsConnections: true,
    async inject(vm) {
      await vm.killAll()
    },
  },
]
