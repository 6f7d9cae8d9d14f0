/**
 * What replicas and the arbiter say to each other: one JSON object per line. A request carries an id, its answer the
 * same id. The first request of a session is `hello`; a session speaks for one replica of one machine, so that no later
 * request has to say who asks.
 *
 *   → {"id":1,"op":"hello","version":4,"machine":"web","replica":"a","token":"…","generation":7}
 *   ← {"id":1,"ok":true,"answer":{"bootId":"…","record":{…}}}
 *   → {"id":2,"op":"testAndSet","generation":7}
 *   ← {"id":2,"ok":true,"answer":{"won":true,"generation":8}}
 *   ← {"event":"fenced","generation":8,"holder":"b"}
 *   ← {"id":3,"ok":false,"error":{"code":"arbiter-storage","message":"…"}}
 *
 * Whether the other end is there at all is asked twice a second by every replica, for as long as it lives. That question
 * and its answer are two fixed lines, which neither side parses.
 *
 *   → {"op":"ping"}
 *   ← {"event":"pong"}
 */

import { z } from 'zod'
import { nameSchema, tokenSchema } from './names.ts'

export const arbiterProtocolVersion = 4

/** Without their line ends. */
export const pingLine = '{"op":"ping"}'
export const pongLine = '{"event":"pong"}'

/** Longest line either side reads. */
export const maxLineBytes = 64 * 1024

/** More backups than any machine will have; bounds the record. */
const maxEligible = 16

const idSchema = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER)
const generationSchema = z
  .number()
  .int()
  .nonnegative()
  .max(Number.MAX_SAFE_INTEGER - 1)
const eligibleSchema = z.array(nameSchema).max(maxEligible)

export const arbiterRequestSchema = z.discriminatedUnion('op', [
  z.strictObject({
    id: idSchema,
    op: z.literal('hello'),
    version: z.number(),
    machine: nameSchema,
    replica: nameSchema,
    token: tokenSchema,
    /** Sent by a holder that comes back: the generation it took. */
    generation: generationSchema.optional(),
  }),
  z.strictObject({ id: idSchema, op: z.literal('read') }),
  z.strictObject({ id: idSchema, op: z.literal('start'), holderHasEnded: z.boolean().optional() }),
  z.strictObject({ id: idSchema, op: z.literal('testAndSet'), generation: generationSchema }),
  z.strictObject({
    id: idSchema,
    op: z.literal('setEligible'),
    generation: generationSchema,
    eligible: eligibleSchema,
  }),
  z.strictObject({
    id: idSchema,
    op: z.literal('openGeneration'),
    generation: generationSchema,
    eligible: eligibleSchema,
  }),
  z.strictObject({ id: idSchema, op: z.literal('release'), generation: generationSchema }),
  z.strictObject({ id: idSchema, op: z.literal('adopt'), generation: generationSchema }),
])

export type ArbiterRequest = z.infer<typeof arbiterRequestSchema>

export const recordSchema = z.object({
  machine: nameSchema,
  generation: generationSchema,
  holder: nameSchema.nullable(),
  heldSince: generationSchema,
  takenBy: z.enum(['nobody', 'start', 'testAndSet', 'elsewhere']),
  eligible: z.array(nameSchema),
  spent: z.array(nameSchema),
})

export const helloAnswerSchema = z.object({ bootId: z.string().max(64), record: recordSchema })

export const startAnswerSchema = z.discriminatedUnion('granted', [
  z.object({ granted: z.literal(true), generation: generationSchema }),
  z.object({
    granted: z.literal(false),
    reason: z.enum(['holder-connected', 'holder-awaited']),
    generation: generationSchema,
    holder: nameSchema,
  }),
])

export const testAndSetAnswerSchema = z.discriminatedUnion('won', [
  z.object({ won: z.literal(true), generation: generationSchema }),
  z.object({
    won: z.literal(false),
    generation: generationSchema,
    holder: nameSchema.nullable(),
    isEligible: z.boolean(),
  }),
])

export const holderAnswerSchema = z.discriminatedUnion('accepted', [
  z.object({ accepted: z.literal(true), generation: generationSchema }),
  z.object({
    accepted: z.literal(false),
    reason: z.enum(['not-holder', 'spent']),
    generation: generationSchema,
    holder: nameSchema.nullable(),
  }),
])

/** Everything the arbiter sends. */
export const arbiterMessageSchema = z.union([
  z.object({ id: idSchema, ok: z.literal(true), answer: z.unknown() }),
  z.object({
    id: idSchema,
    ok: z.literal(false),
    error: z.object({ code: z.string().max(64), message: z.string().max(4096) }),
  }),
  z.object({ event: z.literal('fenced'), generation: generationSchema, holder: nameSchema.nullable() }),
])

export function encodeLine(message: unknown): string {
  return `${JSON.stringify(message)}\n`
}
