/**
 * What a build tells its user while it works: which step runs, and how far it is where that can be known. The command
 * line draws a bar from it; nothing here is needed for the result.
 */

export type GuestPhase = 'index' | 'resolve' | 'download' | 'unpack' | 'initrd' | 'root' | 'store' | 'copy' | 'done'

export interface GuestProgress {
  readonly phase: GuestPhase
  /** A few words for people. */
  readonly detail: string
  readonly doneBytes?: number
  /** Absent when the size is not known beforehand. */
  readonly totalBytes?: number
}

export type OnGuestProgress = (progress: GuestProgress) => void
