/**
 * What a viewer of a console and a replica say to each other, on the unix socket `a.console` or `b.console` of the VM's
 * folder: one JSON object per line, bytes in base64, output numbers as decimal strings.
 *
 *   viewer                                replica a (live)              replica b (backup)
 *     ├──── connects to both ───────────────►│                              │
 *     │◄─── live {generation 1} ─────────────┤                              │  says nothing: it is not live
 *     ├──── attach {after, wish} ───────────►│                              │
 *     │◄─── attached, output, output, … ─────┤                              │
 *     ├──── keys ───────────────────────────►╳ killed                       │
 *     │◄─── live {generation 2} ────────────────────────────────────────────┤
 *     ├──── attach {after: last seen} ─────────────────────────────────────►│
 *     │◄─── output … what follows, nothing twice ───────────────────────────┤
 *
 * A viewer believes the highest generation, so a frozen primary that thaws is heard no more.
 * Keys that were under way to a replica that died are lost, as on a serial line.
 */

import { z } from 'zod'

const decimal = z.string().regex(/^\d{1,20}$/)

/** `write`: be the writer if there is none; `take`: be the writer in any case; `watch`: never. */
export const wishes = ['write', 'take', 'watch'] as const
export type Wish = (typeof wishes)[number]

/** More in one line is no key press and no paste. */
export const maxKeysBytes = 64 * 1024

export const fromViewerSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('attach'), after: decimal.optional(), wish: z.enum(wishes) }),
  z.object({ kind: z.literal('keys'), base64: z.base64().max(maxKeysBytes * 2) }),
])

export const fromReplicaSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('live'), generation: z.number() }),
  /** `isComplete`: the backlog holds everything since `after`. Its outputs follow. */
  z.object({ kind: z.literal('attached'), isWriter: z.boolean(), isComplete: z.boolean() }),
  z.object({ kind: z.literal('output'), sequence: decimal, base64: z.base64(), isBacklog: z.boolean() }),
  /** Another viewer took the keyboard, or left it to this one. */
  z.object({ kind: z.literal('writer'), isWriter: z.boolean() }),
  /** The guest switched itself off; `failed`, after a panic. */
  z.object({ kind: z.literal('off'), failed: z.boolean() }),
])

export type FromViewer = z.output<typeof fromViewerSchema>
export type FromReplica = z.output<typeof fromReplicaSchema>

/** @returns undefined for a line that is no message */
export function parseLine<Message>(schema: z.ZodType<Message>, line: string): Message | undefined {
  try {
    return schema.safeParse(JSON.parse(line)).data
  } catch {
    return undefined
  }
}

export function toLine(message: FromViewer | FromReplica): string {
  return `${JSON.stringify(message)}\n`
}
