/**
 * The two ways into a machine under the epoch discipline (Bressoud & Schneider's words).
 *
 *  - An **interrupt** comes from outside at any time, and waits for the end of the epoch.
 *  - An **environment value** is the result of something the guest did at this very instruction and that only the outside
 *    knows: it is let in at that instruction, and the log carries it.
 *
 * Guest time is neither: it is set by [Tme], a clock entry, at the end of an epoch, and stands still in between. So every
 * reading of it in an epoch has a value that both sides know, and a timer comes due only where an epoch ends.
 *
 * An **uncertain interrupt** says that an operation's outcome is unknown and that the driver is to try again (P7). A disk
 * on the SCSI bus has a word for it; for any other disk the request is issued again behind the driver's back.
 */

import type { Input, MachineConfig, Output } from '../../machine/types.ts'

export type Interrupt = Extract<Input, { kind: 'frame' | 'diskCompletion' | 'consoleInput' | 'powerButton' }>

export type EnvironmentValue = Extract<Input, { kind: 'boot' | 'entropy' }>

type DiskRequest = Extract<Output, { kind: 'disk' }>

export function uncertainInterrupt({ sequence }: DiskRequest): Interrupt {
  return { kind: 'diskCompletion', sequence, status: 'uncertain' }
}

/** Whether the driver of this disk can be told that an operation is uncertain. */
export function canBeUncertain(config: MachineConfig, { disk }: DiskRequest): boolean {
  return config.disks[disk]?.bus === 'scsi'
}
