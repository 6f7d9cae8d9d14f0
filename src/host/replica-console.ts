/**
 * What a replica does with the guest's console output: the file `console.log`, the viewers, and the end of what was printed,
 * which a backup that begins in the middle is given.
 */

import { ConsoleBacklog, type ConsoleOutput } from './console-backlog.ts'
import { ConsoleLog } from './console-log.ts'
import { decodePrinted, encodePrinted, lengthOf } from './console-transfer.ts'
import type { ReplicaEvents } from './replica-settings.ts'

export class ReplicaConsole {
  readonly #log: ConsoleLog
  readonly #recent = new ConsoleBacklog()
  readonly #events: Pick<ReplicaEvents, 'onConsole' | 'onConsoleRegenerated'>
  /** When this replica went live: so many of the last outputs had been written by its primary. */
  repeats = 0

  constructor(folderPath: string, events: Pick<ReplicaEvents, 'onConsole' | 'onConsoleRegenerated'>) {
    this.#log = new ConsoleLog(folderPath)
    this.#events = events
  }

  /** The machine is about to be switched on, by us. */
  begin(runId: bigint): void {
    this.#log.begin(runId)
  }

  /** Released: everybody may see it. */
  write(output: ConsoleOutput): void {
    this.#log.append(output.bytes)
    this.#recent.add(output)
    this.#events.onConsole(output)
  }

  /** A backup's machine printed what its primary's printed. */
  onRegenerated(output: ConsoleOutput): void {
    this.#log.onRegenerated(output.bytes)
    this.#recent.add(output)
    this.#events.onConsoleRegenerated(output)
  }

  /**
   * A backup holds the machine now. Viewers know outputs by their sequence: one that comes again is not shown again.
   * @param unconfirmed the last outputs, which the primary may have written or not
   */
  goLive(runId: bigint, unconfirmed: readonly ConsoleOutput[]): void {
    this.repeats = this.#log.goLive(runId, unconfirmed)
    for (const output of unconfirmed) this.#events.onConsole(output)
  }

  /** For a backup that begins in the middle. */
  get printed(): Uint8Array {
    return encodePrinted({ position: this.#log.position, recent: this.#recent.since(undefined).outputs })
  }

  /**
   * This is a backup that begins in the middle.
   * @param later made by then, and not released
   * @throws WorldError
   */
  beginAt(printed: Uint8Array, later: readonly ConsoleOutput[]): void {
    const { position, recent } = decodePrinted(printed)
    this.#log.beginAt(position - lengthOf(recent))
    for (const output of [...recent, ...later]) this.onRegenerated(output)
  }

  close(): void {
    this.#log.close()
  }
}
