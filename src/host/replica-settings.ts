/** What a replica is told when it starts, what it tells its process, and what fault trials may do to it. */

import type { WorldError } from '../base/assert.ts'
import type { EtcdSettings } from '../etcd/etcd-settings.ts'
import type { Endpoint } from '../net/address.ts'
import type { Reach } from '../replication/reach.ts'
import type { ConsoleOutput } from './console-backlog.ts'
import type { MachineProfile } from './profiler.ts'
import type { ReplicaName } from './vm-folder.ts'

export interface ReplicaSettings {
  /** Name of the machine. */
  readonly machine: string
  /** The VM's file. A backup may be without: its primary gives it the machine. */
  readonly vmPath?: string
  readonly replica: ReplicaName
  /** `alone`: unprotected from the start. */
  readonly role: 'primary' | 'backup' | 'alone'
  /** No process of an earlier run of the machine is left anywhere: the arbiter need not wait for one to come back. */
  readonly holderHasEnded?: boolean
  /** Secret shared with disk server and switch. */
  readonly token: string
  readonly disk: Endpoint
  /** Where the other replica's own copies of disks are. Default: `disk`. */
  readonly peerDisk?: Endpoint
  /** The arbiter in the disk server. */
  readonly arbiter: Endpoint
  /** Who decides instead of it; the disk server fences all the same. */
  readonly etcd?: EtcdSettings
  /** The switch's replica port. Absent, and no TAP either: the machine has no network. */
  readonly lan?: Endpoint
  /** A TAP interface of this replica's host, instead of a switch. */
  readonly tap?: string
  /** Where the other replicas reach this one: backups their primary, and a sibling that went live its backups. */
  readonly listen?: Endpoint
  /** The logging channel: where a backup looks for its primary, one place after the other. */
  readonly primaries?: readonly Endpoint[]
  /** Wait for disk server, switch and primary that are not there yet. Default: they must be there. */
  readonly isPatient?: boolean
  /** Count where the machine's work goes; reported at the end by `onProfile`. */
  readonly isProfiled?: boolean
  /** Where `console.log` is. */
  readonly folderPath: string
}

export interface ReplicaEvents {
  /** Console output of the guest, released. */
  readonly onConsole: (output: ConsoleOutput) => void
  /** A backup's machine printed again what its primary's printed. Nobody may see it unless this replica goes live. */
  readonly onConsoleRegenerated: (output: ConsoleOutput) => void
  /** This replica holds the machine, in this generation. */
  readonly onLive: (generation: number) => void
  /** Its backups, or what it is itself, may have changed; at every tick as well. */
  readonly onBackupsMayDiffer?: () => void
  /** The guest switched itself off; the replica has ended in good order. `failed`: after a panic. */
  readonly onOff: (failed: boolean) => void
  /** A profiled machine has stopped. */
  readonly onProfile?: (profile: MachineProfile) => void
  /** The replica stopped for good. */
  readonly onHalt: (error: WorldError) => void
  readonly trace: (line: string) => void
}

/** What the fault trials can do to a replica from inside; signals do the rest. */
export type ReplicaFault =
  | { readonly kind: 'cutChannel'; readonly direction: 'in' | 'out' | 'both' }
  /** A backup: its primary is so far away. */
  | { readonly kind: 'delayChannel'; readonly oneWayMs: number }
  | { readonly kind: 'hart'; readonly fault: 'die' | 'hang' }
  /** Its hart runs for this share of real time: 100 is all of it. */
  | { readonly kind: 'slowHart'; readonly percent: number }
  | { readonly kind: 'cutReach' | 'mendReach'; readonly of: keyof Reach }
  /** What the arbiter answers to questions that are asked over the present connection is not heard. */
  | { readonly kind: 'loseArbiterAnswers' }
