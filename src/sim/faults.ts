/**
 * Faults, by seed: what happens, when, to whom. A fault happens, lasts, and ends; at the end of a plan the world is whole again
 * but for what died.
 */

import type { Death } from './actor.ts'
import type { Chance } from './chance.ts'
import type { DiskSite } from './disk-site.ts'
import { diskHost, lanHost } from './names.ts'
import type { Cable } from './network.ts'
import type { SimReplica } from './replica.ts'
import type { World } from './world.ts'

export const faultKinds = [
  'killPrimary',
  'killBackup',
  'killAny',
  'hurtReprotection',
  'hurtReprotection',
  'failFlushOfReprotection',
  'killWinner',
  'killWinner',
  'crashAtBoundary',
  'crashPrimaryAtBoundary',
  'pausePrimary',
  'pauseBackup',
  'cutChannel',
  'cutChannelOneWay',
  'cutFromDisk',
  'cutFromLan',
  'cutFromAll',
  'flap',
  'slowLink',
  'reset',
  'resetOnSlowDisk',
  'diskErrors',
  'slowDisk',
  'killDiskServer',
  'killSwitch',
  'pauseDiskServer',
  'loseArbiterAnswers',
  'clockJump',
  'hangHart',
  'slowHart',
  'slowBackup',
  'unprotect',
  'powerButton',
] as const

/** What happens while a new backup is being given the machine. */
const duringReprotection: readonly FaultKind[] = [
  'killPrimary',
  'killBackup',
  'crashAtBoundary',
  'crashPrimaryAtBoundary',
  'pausePrimary',
  'pauseBackup',
  'cutChannel',
  'cutFromDisk',
  'reset',
  'diskErrors',
  'killDiskServer',
  'slowLink',
  'unprotect',
]

export type FaultKind = (typeof faultKinds)[number]

/** The arbiter is a part of the disk server. */
export const victims = ['primary', 'backup', 'otherBackup', 'diskServer', 'switch'] as const

/** Of an exhaustive run: who dies, and how, at which boundary of log entries (witness.ts), counted from 1. */
export interface Crash {
  readonly boundary: number
  readonly victim: (typeof victims)[number]
  readonly how: Death
}

export interface PlannedFault {
  readonly kind: FaultKind
  readonly atMs: number
}

/** One to four faults; the first may come at any time, also while the pair forms. */
export function planFaults(chance: Chance): PlannedFault[] {
  const count = chance.pick([1, 2, 2, 3, 3, 4])
  const plan: PlannedFault[] = []
  let atMs = chance.chance(0.1) ? chance.below(20) : 20 + chance.below(600)
  for (let fault = 0; fault < count; fault++) {
    plan.push({ kind: chance.pick(faultKinds), atMs })
    // Close together, or one after the other's consequences.
    atMs += chance.chance(0.5) ? chance.below(60) : chance.below(600)
  }
  return plan
}

export class Faults {
  readonly #world: World
  readonly #chance: Chance
  /** What ends the faults that last, for `healAll`. */
  readonly #lasting = new Set<() => void>()
  happened = 0
  /** Nothing happens any more, not even what was on its way. */
  #isOver = false

  constructor(world: World, chance: Chance) {
    this.#world = world
    this.#chance = chance
  }

  happen(kind: FaultKind): void {
    if (this.#isOver) return
    const world = this.#world
    world.trace(() => `fault: ${kind}`)
    this.happened++
    if (world.isProtecting) world.checkers.count('fault_during_reprotection')
    switch (kind) {
      case 'killPrimary':
        this.#kill(this.#primary())
        return
      case 'killBackup':
        this.#kill(this.#backup())
        return
      case 'killAny':
        this.#kill(this.#anyone())
        return
      case 'hurtReprotection':
        this.#kill(this.#anyone())
        if (this.#chance.chance(0.5)) {
          this.#hurtWhenListed()
          return
        }
        world.onProtecting = () => {
          const second = this.#chance.pick(duringReprotection)
          world.timeline.after(this.#chance.between(1, 40) * 500, () => this.happen(second))
        }
        return
      case 'failFlushOfReprotection':
        this.#kill(this.#anyone())
        world.onProtecting = () => this.#failFlushes()
        return
      case 'killWinner':
        this.#kill(this.#primary())
        world.checkers.onLiveNext = (name) => {
          world.timeline.after(this.#chance.below(500), () =>
            this.#kill(world.replicas.find((replica) => replica.name === name)),
          )
        }
        return
      case 'crashAtBoundary':
        this.#crashSoon(this.#chance.pick(victims))
        return
      case 'crashPrimaryAtBoundary':
        this.#crashSoon('primary')
        return
      case 'pausePrimary':
        this.#pause(this.#primary())
        return
      case 'pauseBackup':
        this.#pause(this.#backup())
        return
      case 'cutChannel':
        this.#cut(this.#channelCables())
        return
      case 'cutChannelOneWay':
        world.checkers.count('one_way_cut')
        this.#cut([this.#chance.pick(this.#channelCables())])
        return
      case 'cutFromDisk':
        this.#cutFrom(diskHost)
        return
      case 'cutFromLan':
        this.#cutFrom(lanHost)
        return
      case 'cutFromAll': {
        const { name } = this.#anyone() ?? { name: 'a' }
        world.mayLoseFrames = true
        this.#countReach()
        this.#cut(
          [...this.#names, diskHost, lanHost]
            .filter((other) => other !== name)
            .flatMap((other) => [this.#cable(name, other), this.#cable(other, name)]),
        )
        return
      }
      case 'flap':
        this.#flap()
        return
      case 'slowLink':
        this.#slowLink()
        return
      case 'reset':
        this.#reset()
        return
      case 'resetOnSlowDisk':
        this.#resetOnSlowDisk()
        return
      case 'diskErrors': {
        world.checkers.count('disk_error')
        const { weather } = this.#disk().store
        weather.errorChance = 0.3
        this.#last(20, 200, () => (weather.errorChance = 0))
        return
      }
      case 'slowDisk':
        this.#slowDisk()
        return
      case 'killDiskServer':
        this.#killDiskServer()
        return
      case 'killSwitch':
        this.#killSwitch()
        return
      case 'pauseDiskServer': {
        const site = this.#diskServer()
        const { actor } = site.server
        if (site === world.arbiterSite) world.checkers.count('arbiter_out_of_reach')
        actor.pause()
        this.#last(50, 600, () => actor.resume())
        return
      }
      case 'loseArbiterAnswers':
        this.#loseArbiterAnswers()
        return
      case 'clockJump': {
        world.checkers.count('clock_jump')
        const host = this.#chance.pick(world.hosts)
        host.calendarOffsetMs += this.#chance.pick([-100_000, -3000, -500, 500, 3000, 30_000])
        return
      }
      case 'hangHart': {
        // The main thread notices, and the replica ends (hart-watch.ts).
        const victim = this.#anyone()
        if (!victim || victim.isGone) return
        world.checkers.count('hart_hang')
        victim.hart.hang()
        world.timeline.after(this.#chance.between(50, 500) * 1000, () => world.killReplica(victim, 'process'))
        return
      }
      case 'slowHart':
        this.#slowHart(this.#anyone())
        return
      case 'slowBackup':
        this.#slowHart(this.#backup())
        if (this.#chance.chance(0.5)) {
          world.timeline.after(this.#chance.between(20, 150) * 1000, () => this.#kill(this.#primary()))
        }
        return
      case 'unprotect':
        world.checkers.count('unprotected_by_operator')
        world.wantsProtection = false
        this.#last(30, 300, () => (world.wantsProtection = true))
        this.#primary()?.actor.deliver(() => this.#primary()?.unprotect())
        return
      case 'powerButton': {
        const primary = this.#primary()
        if (!primary || primary.actor.isPaused) return
        world.checkers.count('guest_reboot')
        primary.pressPowerButton()
      }
    }
  }

  /** So that a backup is given the machine in a short run, too. */
  loseBackup(): void {
    const backup = this.#backup()
    if (backup) this.#world.killReplica(backup, 'process')
  }

  /** Somebody dies in the very moment of a boundary, whoever is at work there. */
  crash({ victim, how }: Crash): void {
    const world = this.#world
    world.trace(() => `crash: ${victim} (${how})`)
    this.happened++
    switch (victim) {
      case 'primary':
      case 'backup':
      case 'otherBackup': {
        const [backup, otherBackup] = this.#backups()
        const replica = { primary: this.#primary(), backup, otherBackup }[victim]
        if (replica) world.killReplica(replica, how)
        return
      }
      case 'diskServer':
        this.#killSite(this.#diskServer(), how, 30, 60)
        return
      case 'switch':
        if (world.lan.actor.isDead) return
        world.mayLoseFrames = true
        world.lan.actor.kill(how)
        this.#last(30, 60, () => world.startSwitch())
    }
  }

  /** The primary dies right after the arbiter knows of its backup: with confirmations, frames, disk writes on their way. */
  #hurtWhenListed(): void {
    const world = this.#world
    const isSlow = this.#chance.chance(0.6)
    const isDiskToo = this.#chance.chance(0.4)
    world.onProtecting = () => {
      if (isDiskToo) this.#slowDisk()
      if (!isSlow) return
      for (const { name } of world.hosts) this.#slow([this.#cable(name, lanHost)])
    }
    world.checkers.onListedNext = () => {
      world.timeline.after(this.#chance.below(8000), () => {
        const primary = this.#isOver ? undefined : this.#primary()
        if (primary) world.killReplica(primary, this.#chance.chance(0.6) ? 'host' : 'process')
        if (isDiskToo) this.#killDiskServerNow()
      })
    }
  }

  /** At one of the next boundaries. */
  #crashSoon(victim: Crash['victim']): void {
    const { checkers } = this.#world
    const boundary = checkers.boundaries + this.#chance.between(1, 30)
    const how = this.#chance.chance(0.3) ? 'host' : 'process'
    checkers.onBoundaryReached = (reached) => {
      if (reached === boundary) this.crash({ boundary, victim, how })
    }
  }

  /** Everything that lasts ends. */
  healAll(): void {
    this.#isOver = true
    this.#world.checkers.onBoundaryReached = undefined
    this.#world.onProtecting = undefined
    this.#world.checkers.onListedNext = undefined
    this.#world.checkers.onDiskWriteNext = undefined
    this.#world.checkers.onDiskAnswerNext = undefined
    this.#world.checkers.onLiveNext = undefined
    for (const end of [...this.#lasting]) end()
    this.#world.trace(() => 'all faults are over')
  }

  // ---- who -----------------------------------------------------------------------------------------------------------

  #primary(): SimReplica | undefined {
    return this.#world.replicas.find(({ primary, isGone }) => primary !== undefined && !isGone)
  }

  #backup(): SimReplica | undefined {
    return this.#backups()[0]
  }

  #backups(): readonly SimReplica[] {
    return this.#world.replicas.filter(({ primary, isGone }) => primary === undefined && !isGone)
  }

  #anyone(): SimReplica | undefined {
    const there = this.#world.replicas.filter(({ isGone }) => !isGone)
    return there.length > 0 ? this.#chance.pick(there) : undefined
  }

  get #names(): readonly string[] {
    return this.#world.hosts.map(({ name }) => name)
  }

  /** Between two replicas, both ways. */
  #channelCables(): readonly Cable[] {
    const primary = this.#primary()?.name ?? 'a'
    const other = this.#chance.pick(this.#names.filter((name) => name !== primary))
    return [this.#cable(primary, other), this.#cable(other, primary)]
  }

  #cable(from: string, to: string): Cable {
    return this.#world.network.cable(from, to)
  }

  // ---- what ----------------------------------------------------------------------------------------------------------

  /** Ends the fault after a time between these, or when all faults end. */
  #last(leastMs: number, mostMs: number, end: () => void): void {
    const once = (): void => {
      if (this.#lasting.delete(once)) end()
    }
    this.#lasting.add(once)
    this.#world.timeline.after(this.#chance.between(leastMs, mostMs) * 1000, once)
  }

  #kill(victim: SimReplica | undefined): void {
    if (!victim || this.#isOver) return
    const how = this.#chance.chance(0.3) ? 'host' : 'process'
    if (how === 'host') this.#world.checkers.count('host_crash')
    this.#world.killReplica(victim, how)
  }

  /** Short, or longer than anybody's patience. */
  #pause(victim: SimReplica | undefined): void {
    if (!victim || victim.isGone) return
    const wasPrimary = victim.primary !== undefined
    victim.actor.pause()
    this.#world.trace(() => `pause ${victim.name}`)
    const mostMs = this.#chance.chance(0.3) ? 150 : 1200
    this.#last(10, mostMs, () => {
      if (wasPrimary && this.#world.replicas.some((other) => other !== victim && other.isLive)) {
        this.#world.checkers.count('primary_paused_and_woke')
      }
      this.#world.trace(() => `resume ${victim.name}`)
      victim.actor.resume()
    })
  }

  #cut(cables: readonly Cable[]): void {
    for (const cable of cables) {
      this.#world.trace(() => `cut ${cable.name}`)
      cable.cut()
    }
    this.#last(30, 1000, () => {
      for (const cable of cables) cable.mend()
    })
  }

  /** One replica, one way or both, loses the disk server or the switch. */
  #cutFrom(server: string): void {
    const { name } = this.#anyone() ?? { name: 'a' }
    if (server === lanHost) this.#world.mayLoseFrames = true
    else this.#countReach()
    const there = this.#cable(name, server)
    const back = this.#cable(server, name)
    if (this.#chance.chance(0.6)) this.#cut([there, back])
    else {
      this.#world.checkers.count('one_way_cut')
      this.#cut([this.#chance.pick([there, back])])
    }
  }

  /** One replica loses the arbiter, the others do not. */
  #countReach(): void {
    this.#world.checkers.count('arbiter_out_of_reach')
    this.#world.checkers.count('arbiter_out_of_reach_on_one_side')
  }

  #pair(): readonly [string, string] {
    const names = this.#names
    const one = this.#chance.pick(names)
    const others = names.filter((name) => name !== one)
    return [one, this.#chance.pick([...others, ...others, diskHost, lanHost])]
  }

  #flap(): void {
    const world = this.#world
    world.checkers.count('flapping_link')
    const [one, other] = this.#pair()
    if (other === lanHost) world.mayLoseFrames = true
    const cables = [this.#cable(one, other), this.#cable(other, one)]
    let left = this.#chance.between(3, 12)
    let isOver = false
    const turn = (): void => {
      const isCut = cables[0]!.isCut
      for (const cable of cables) {
        if (isCut) cable.mend()
        else if (!isOver) cable.cut()
      }
      if (!isOver && left-- > 0) world.timeline.after(this.#chance.between(5, 120) * 1000, turn)
      else for (const cable of cables) cable.mend()
    }
    turn()
    this.#last(100, 900, () => {
      isOver = true
      for (const cable of cables) cable.mend()
    })
  }

  #slowLink(): void {
    const [one, other] = this.#pair()
    this.#world.checkers.count('slow_link')
    this.#slow([this.#cable(one, other), this.#cable(other, one)].slice(0, this.#chance.between(1, 2)))
  }

  #slow(cables: readonly Cable[]): void {
    const extraDelayUs = this.#chance.between(1000, 60_000)
    for (const cable of cables) cable.extraDelayUs = extraDelayUs
    this.#last(100, 600, () => {
      for (const cable of cables) cable.extraDelayUs = 0
    })
  }

  #reset(): void {
    const [one, other] = this.#pair()
    this.#resetBetween(one, other)
  }

  #resetBetween(one: string, other: string): void {
    if (this.#isOver) return
    if (other === lanHost) this.#world.mayLoseFrames = true
    const ends = [...this.#world.network.connections(one, other), ...this.#world.network.connections(other, one)]
    for (const end of ends) end.reset()
    if (ends.length > 0) this.#world.checkers.count('connection_reset')
  }

  #slowHart(victim: SimReplica | undefined): void {
    if (!victim) return
    this.#world.checkers.count('slow_hart')
    victim.hart.slowness = this.#chance.between(3, 40)
    this.#last(50, 400, () => (victim.hart.slowness = 1))
  }

  #slowDisk(): void {
    this.#world.checkers.count('slow_disk')
    const { weather } = this.#disk().store
    weather.slowness = this.#chance.between(10, 200)
    this.#last(50, 400, () => (weather.slowness = 1))
  }

  /** While a backup is given the machine; then the host of the disk server may crash, with what nobody has flushed. */
  #failFlushes(): void {
    const { weather } = this.#disk().store
    weather.flushErrorChance = 0.8
    this.#last(50, 250, () => (weather.flushErrorChance = 0))
    if (this.#chance.chance(0.7)) {
      this.#world.timeline.after(this.#chance.between(10, 200) * 1000, () => this.#killDiskServerNow())
    }
  }

  /** Also while it is busy: so that writes are torn. */
  #killDiskServer(): void {
    if (this.#chance.chance(0.5)) {
      this.#killDiskServerNow()
      return
    }
    this.#slowDisk()
    this.#world.checkers.onDiskWriteNext = () => {
      this.#world.timeline.after(this.#chance.below(1500), () => this.#killDiskServerNow())
    }
  }

  /** With requests in execution, or with an answer on its way. */
  #resetOnSlowDisk(): void {
    const { checkers, timeline } = this.#world
    const reset = (): void => {
      const name = this.#primary()?.name ?? 'a'
      this.#resetBetween(name, this.#world.copyOf(name)?.host ?? diskHost)
    }
    this.#slowDisk()
    if (this.#chance.chance(0.5)) timeline.after(this.#chance.between(5, 80) * 1000, reset)
    else checkers.onDiskAnswerNext = () => timeline.after(1 + this.#chance.below(30), reset)
  }

  #killDiskServerNow(): void {
    if (this.#isOver) return
    const world = this.#world
    const site = this.#diskServer()
    if (site.server.actor.isDead) return
    const how = this.#chance.chance(0.6) ? 'host' : 'process'
    const before = site.store.tornWrites
    if (how === 'host') world.checkers.count('disk_host_crash')
    if (site === world.arbiterSite) world.checkers.count('arbiter_out_of_reach')
    this.#killSite(site, how, 20, 500)
    if (site.store.tornWrites > before) world.checkers.count('torn_write')
  }

  #killSite(site: DiskSite, how: Death, leastMs: number, mostMs: number): void {
    if (site.server.actor.isDead) return
    // The power of a replica's host is its replica's too.
    const replica = how === 'host' ? this.#world.replicas.find(({ name }) => name === site.host) : undefined
    if (replica) this.#world.killReplica(replica, how)
    // Connections of a dead host are found dead when it is back: at the latest then.
    site.server.actor.kill(how)
    this.#last(leastMs, mostMs, () => {
      if (site.server.actor.isDead) site.start()
    })
  }

  /** Where an image is: of own copies, anybody's. */
  #disk(): DiskSite {
    const { copies, arbiterSite } = this.#world
    return copies.length > 0 ? this.#chance.pick(copies) : arbiterSite
  }

  /** A disk server, or the arbiter. */
  #diskServer(): DiskSite {
    const { copies, arbiterSite } = this.#world
    return copies.length > 0 ? this.#chance.pick([arbiterSite, ...copies]) : arbiterSite
  }

  #killSwitch(): void {
    const world = this.#world
    if (world.lan.actor.isDead) return
    world.checkers.count('switch_crash')
    world.mayLoseFrames = true
    world.lan.actor.kill('process')
    this.#last(20, 400, () => world.startSwitch())
  }

  #loseArbiterAnswers(): void {
    const world = this.#world
    const lose = (): void => {
      for (const { replica } of world.hosts) {
        if (replica?.arbiter.loseNextAnswer()) world.checkers.count('arbiter_answer_lost')
      }
    }
    lose()
    // And somebody will have to ask.
    this.#kill(this.#chance.chance(0.5) ? this.#primary() : this.#backup())
  }
}
