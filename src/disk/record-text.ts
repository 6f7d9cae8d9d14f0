/**
 * An arbiter's record as text, wherever it stands: in a file beside the disk server, or under a key of etcd. One line of
 * JSON with a version. A damaged record is never taken for a fresh one: generations must not start again.
 */

import { z } from 'zod'
import { WorldError } from '../base/assert.ts'
import { recordSchema } from './arbiter-messages.ts'
import { ArbiterRecord } from './arbiter-record.ts'

const textSchema = z.strictObject({ version: z.literal(1), ...recordSchema.shape })

export function formatRecord(record: ArbiterRecord): string {
  return `${JSON.stringify({ version: 1, ...record.fields })}\n`
}

/**
 * @param where the text stands, as an error line calls it
 * @throws WorldError `arbiter-record-damaged`
 */
export function parseRecord(text: string, machine: string, where: string): ArbiterRecord {
  let fields: z.infer<typeof textSchema>
  try {
    fields = textSchema.parse(JSON.parse(text))
  } catch {
    throw new WorldError(
      'arbiter-record-damaged',
      `arbiter record ${where} is damaged: restore it, or remove it once no replica of the machine runs`,
    )
  }
  if (fields.machine !== machine) {
    throw new WorldError('arbiter-record-damaged', `arbiter record ${where} is of another machine, ${fields.machine}`)
  }
  const { version: _, ...rest } = fields
  return new ArbiterRecord(rest)
}
