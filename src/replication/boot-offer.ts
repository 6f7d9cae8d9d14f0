/**
 * The primary's answer to a backup that has nothing to boot from: one piece of its boot artefacts per question. It keeps
 * nothing between two questions, so a backup may ask as fast or as slow as it likes, and never has more than a piece of
 * it waiting in a socket.
 *
 * It is asked before hello: nobody holds outputs for a backup that is not there yet. Whether that backup may join is
 * decided at its hello (primary.ts), but what would be refused then anyway is refused here, before megabytes are sent.
 */

import { type BootArtefacts, EncodedArtefacts } from '../log/boot-artefacts.ts'
import { identityMismatch, type MachineIdentity } from '../log/identity.ts'
import { artefactsPieceBytes, type Message } from './messages.ts'

export class BootOffer {
  readonly #identity: MachineIdentity
  readonly #artefacts: EncodedArtefacts

  constructor(identity: MachineIdentity, artefacts: BootArtefacts) {
    this.#identity = identity
    this.#artefacts = new EncodedArtefacts(artefacts)
  }

  /** The piece that was asked for, or a refusal. */
  answer({ machine, instructionTableHash, offset }: Extract<Message, { kind: 'fetch' }>): Message {
    const identity = this.#identity
    const mismatch = identityMismatch(identity, { ...identity, machine, instructionTableHash })
    if (mismatch !== undefined) return { kind: 'refuse', reason: mismatch }
    const { lengthBytes } = this.#artefacts
    if (offset >= lengthBytes)
      return { kind: 'refuse', reason: `the machine ends at byte ${lengthBytes}, not ${offset}` }
    const bytes = this.#artefacts.slice(offset, artefactsPieceBytes)
    return { kind: 'artefacts', identity, lengthBytes, offset, bytes }
  }
}
