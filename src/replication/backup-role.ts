/**
 * The state that a backup is in (roles.ts), how long it stays so when nobody speaks to it, and its end. `Backup` and `Failover`
 * share it: they are one state machine, told in two chapters.
 */

import type { BackupLine } from './backup-line.ts'
import type { BackupEffect, HaltReason } from './effects.ts'
import { type BackupState, backupTransitions, moveTo } from './roles.ts'

export class BackupRole {
  readonly #line: BackupLine
  readonly #effects: BackupEffect[]
  #state: BackupState = 'joining'
  /** While it joins, rejoins, or is to ask (again). */
  waitsUntilMs = Number.POSITIVE_INFINITY

  /** @param effects where its end is put, in order */
  constructor(line: BackupLine, effects: BackupEffect[]) {
    this.#line = line
    this.#effects = effects
  }

  get state(): BackupState {
    return this.#state
  }

  moveTo(state: BackupState): void {
    this.#state = moveTo(backupTransitions, this.#state, state)
    this.waitsUntilMs = Number.POSITIVE_INFINITY
  }

  halt(reason: HaltReason, detail: string): void {
    this.moveTo('halted')
    this.#line.close(detail)
    this.#effects.push({ kind: 'halt', reason, detail })
  }
}
