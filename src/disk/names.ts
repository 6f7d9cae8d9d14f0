/**
 * The names on the wire, and how a replica's right to a disk travels over standard NBD: in the export name.
 *
 *   disk0                                  anybody, while nobody holds the machine; read-only otherwise
 *   disk0@web/7/replica-a/TOKEN            replica-a of machine web, which holds it in generation 7
 *
 * Every NBD client can send that (`nbd://127.0.0.1:10809/disk0@web/7/replica-a/TOKEN`). The token is a secret: the server
 * never traces it, but a command line shows it to other users of the host.
 */

import { createHash, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import { WorldError } from '../base/assert.ts'

const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/
const tokenPattern = /^[A-Za-z0-9._~-]{1,256}$/

/** Name of an export, machine or replica. */
export const nameSchema = z.string().regex(namePattern)

/** A machine's secret, URL-safe. */
export const tokenSchema = z.string().regex(tokenPattern)

/** Begins the text of a refusal because the generation is over, so that a client can tell it from a wrong token. */
export const fencedPrefix = 'fenced: '

const bootPrefix = 'understudy boot '

/** How our exports describe themselves: by the boot of their server, so that a client sees whether it is another one. */
export function formatBootId(bootId: string): string {
  return `${bootPrefix}${bootId}`
}

/** The boot that an export's description names; undefined if it is not an export of ours. */
export function bootIdOf(description: string): string | undefined {
  return description.startsWith(bootPrefix) ? description.slice(bootPrefix.length) : undefined
}

/** What a replica shows to be let at a disk of its machine. */
export interface ReplicaPass {
  readonly machine: string
  readonly generation: number
  readonly replica: string
  readonly token: string
}

export interface ExportName {
  readonly exportName: string
  readonly pass?: ReplicaPass
}

/** The NBD export name that carries `pass`. */
export function formatExportName(exportName: string, pass?: ReplicaPass): string {
  if (!pass) return exportName
  return `${exportName}@${pass.machine}/${pass.generation}/${pass.replica}/${pass.token}`
}

/** Takes an export name apart; the message of the error shows no secret. */
export function parseExportName(text: string): ExportName {
  const at = text.indexOf('@')
  const exportName = at < 0 ? text : text.slice(0, at)
  if (exportName !== '' && !namePattern.test(exportName)) throw badExportName('the name has odd characters')
  if (at < 0) return { exportName }
  const [machine = '', generationText = '', replica = '', token = '', ...rest] = text.slice(at + 1).split('/')
  if (rest.length > 0 || !namePattern.test(machine) || !namePattern.test(replica) || !tokenPattern.test(token)) {
    throw badExportName('write EXPORT@MACHINE/GENERATION/REPLICA/TOKEN')
  }
  const generation = Number(generationText)
  if (!/^\d{1,16}$/.test(generationText) || !Number.isSafeInteger(generation)) {
    throw badExportName('the generation is no number')
  }
  return { exportName, pass: { machine, generation, replica, token } }
}

function badExportName(why: string): WorldError {
  return new WorldError('nbd-export-name', `not an export name: ${why}`)
}

/** Compares secrets without telling by its duration where they differ. */
export function equalSecrets(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}
