/**
 * As much of etcd as we need: transactions, leases, ranges, over the JSON gateway that every member serves
 * (etcd's documents: "Why gRPC gateway"). Keys and values are base64 there, 64-bit numbers are strings. Why no client
 * library: docs/decisions/0009-etcd-over-its-gateway.md.
 *
 * A cluster is several members, any of which may be dead or frozen. A call tries one after the other until one answers,
 * the one that answered last first, and fails with `EtcdError`, reason `unreachable`, when its time is over. A
 * call that went to several members may have been carried out more than once, so a transaction needs a comparison that
 * fails the second time, and its caller looks again when it was told "no".
 *
 * It has no session and no opinion. Leases are kept by who holds them.
 */

import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import { z } from 'zod'
import { WorldError } from '../base/assert.ts'
import type { Cable } from '../net/cable.ts'
import { checkEndpoint, type EtcdCredentials, type EtcdSettings, readCredentials } from './etcd-settings.ts'

/** `lease-gone`: the lease that a transaction or a renewal names has ended. `full`: the cluster takes no more data. */
export type EtcdErrorReason = 'unreachable' | 'denied' | 'full' | 'lease-gone' | 'protocol'

export class EtcdError extends WorldError {
  readonly reason: EtcdErrorReason

  constructor(reason: EtcdErrorReason, message: string) {
    super(`etcd-${reason}`, message)
    this.reason = reason
  }
}

/** What stands under a key. Revisions and leases are etcd's numbers, as text. */
export interface EtcdEntry {
  readonly key: string
  readonly value: string
  readonly modRevision: string
  /** `0`: it stands until it is deleted. */
  readonly lease: string
}

/** The revision that a key without a value compares equal to. */
export const absentRevision = '0'

/** What must be so, for a transaction to be carried out: the key was last changed in this revision. */
export interface EtcdComparison {
  readonly key: string
  readonly modRevision: string
}

export type EtcdOperation =
  | { readonly put: string; readonly value: string; readonly lease?: string }
  | { readonly delete: string }

/** A member that says nothing for so long is passed over: a call has time for another one, or two. */
const memberTimeoutMs = 700
/** After all members have failed. */
const roundPauseMs = 50
const maxAnswerBytes = 4 * 1024 * 1024

/** Codes of gRPC, as the gateway writes them. */
const GrpcCode = {
  notFound: 5,
  denied: 7,
  exhausted: 8,
  precondition: 9,
  unavailable: 14,
  unauthenticated: 16,
} as const

const entrySchema = z.object({
  key: z.string(),
  value: z.string().default(''),
  mod_revision: z.string(),
  lease: z.string().default('0'),
})
const rangeSchema = z.object({ kvs: z.array(entrySchema).default([]) })
const answerSchemas = {
  transaction: z.object({
    succeeded: z.boolean().default(false),
    responses: z.array(z.object({ response_range: rangeSchema.optional() })).default([]),
  }),
  grant: z.object({ ID: z.string() }),
  keepAlive: z.object({ result: z.object({ TTL: z.string().default('0') }) }),
  timeToLive: z.object({ TTL: z.string().default('0') }),
  authenticate: z.object({ token: z.string() }),
  nothing: z.object({}),
  error: z.object({ code: z.number().default(0), error: z.string().default(''), message: z.string().default('') }),
}

/** One answer of a member. */
interface Answer {
  readonly status: number
  readonly text: string
}

export class EtcdClient {
  readonly #endpoints: readonly string[]
  readonly #credentials: EtcdCredentials
  readonly #agents: { readonly http: HttpAgent; readonly https: HttpsAgent }
  /** Index of the member that is asked first. */
  #preferred = 0
  #token: string | undefined

  /** @throws WorldError `bad-configuration` */
  constructor(settings: EtcdSettings) {
    this.#endpoints = settings.endpoints.map(checkEndpoint)
    this.#credentials = readCredentials(settings)
    this.#agents = { http: new HttpAgent({ keepAlive: true }), https: new HttpsAgent({ keepAlive: true }) }
    if (settings.cable) for (const agent of Object.values(this.#agents)) plugInto(agent, settings.cable)
  }

  /** The entries under these keys, all of one moment. */
  async read(keys: readonly string[], timeoutMs: number): Promise<(EtcdEntry | undefined)[]> {
    const success = keys.map((key) => ({ requestRange: { key: encode(key) } }))
    const { responses } = await this.#call('kv/txn', { success }, answerSchemas.transaction, timeoutMs)
    return keys.map((_, index) => {
      const entry = responses[index]?.response_range?.kvs[0]
      return entry && decodeEntry(entry)
    })
  }

  /** Every entry whose key begins so. */
  async list(prefix: string, timeoutMs: number): Promise<EtcdEntry[]> {
    const end = Buffer.from(prefix)
    end[end.length - 1]!++
    const body = { key: encode(prefix), rangeEnd: end.toString('base64') }
    const { kvs } = await this.#call('kv/range', body, rangeSchema, timeoutMs)
    return kvs.map(decodeEntry)
  }

  /** Carries out all operations in one moment if every comparison holds in it, and else none. @returns whether it did */
  async transact(
    comparisons: readonly EtcdComparison[],
    operations: readonly EtcdOperation[],
    timeoutMs: number,
  ): Promise<boolean> {
    const body = {
      compare: comparisons.map(({ key, modRevision }) => ({
        key: encode(key),
        target: 'MOD',
        result: 'EQUAL',
        modRevision,
      })),
      success: operations.map((operation) => {
        if ('delete' in operation) return { requestDeleteRange: { key: encode(operation.delete) } }
        const { put, value, lease } = operation
        return { requestPut: { key: encode(put), value: encode(value), ...(lease === undefined ? {} : { lease }) } }
      }),
    }
    return (await this.#call('kv/txn', body, answerSchemas.transaction, timeoutMs)).succeeded
  }

  /** A lease of this many seconds. What is put with it vanishes when nobody keeps it for so long. */
  async grantLease(ttlSeconds: number, timeoutMs: number): Promise<string> {
    return (await this.#call('lease/grant', { TTL: String(ttlSeconds) }, answerSchemas.grant, timeoutMs)).ID
  }

  /** @throws EtcdError `lease-gone` */
  async keepLease(lease: string, timeoutMs: number): Promise<void> {
    const { result } = await this.#call('lease/keepalive', { ID: lease }, answerSchemas.keepAlive, timeoutMs)
    if (Number(result.TTL) <= 0) throw new EtcdError('lease-gone', 'etcd: the lease has ended')
  }

  /** Whole seconds that the lease has left; 0 or less: it has ended. */
  async leaseSeconds(lease: string, timeoutMs: number): Promise<number> {
    return Number((await this.#call('lease/timetolive', { ID: lease }, answerSchemas.timeToLive, timeoutMs)).TTL)
  }

  async revokeLease(lease: string, timeoutMs: number): Promise<void> {
    await this.#call('lease/revoke', { ID: lease }, answerSchemas.nothing, timeoutMs)
  }

  close(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy()
  }

  async #call<Schema extends z.ZodType>(
    path: string,
    body: unknown,
    schema: Schema,
    timeoutMs: number,
  ): Promise<z.output<Schema>> {
    const deadlineMs = performance.now() + timeoutMs
    const text = JSON.stringify(body)
    for (;;) {
      if (this.#credentials.login && this.#token === undefined) await this.#logIn(deadlineMs)
      const answer = await this.#askMembers(path, text, deadlineMs)
      if (answer.status === 200) return this.#checked(schema, answer.text)
      const { code, error, message } = this.#checked(answerSchemas.error, answer.text)
      const why = message || error
      // A token ends by itself, or with the member that gave it.
      if ((code === GrpcCode.unauthenticated || /invalid auth token/.test(why)) && this.#token !== undefined) {
        this.#token = undefined
        continue
      }
      throw refusal(code, why)
    }
  }

  async #logIn(deadlineMs: number): Promise<void> {
    const answer = await this.#askMembers('auth/authenticate', JSON.stringify(this.#credentials.login), deadlineMs)
    if (answer.status !== 200) {
      const { error, message } = this.#checked(answerSchemas.error, answer.text)
      throw new EtcdError('denied', `etcd refuses user ${this.#credentials.login?.name}: ${message || error}`)
    }
    this.#token = this.#checked(answerSchemas.authenticate, answer.text).token
  }

  /** @returns what the first member says that does not say that it cannot */
  async #askMembers(path: string, body: string, deadlineMs: number): Promise<Answer> {
    let why: string | undefined
    for (let failures = 0; ; ) {
      const leftMs = deadlineMs - performance.now()
      if (leftMs <= 0)
        throw new EtcdError('unreachable', `etcd at ${this.#endpoints.join(', ')}: ${why ?? 'no answer'}`)
      const endpoint = this.#endpoints[this.#preferred]!
      try {
        const answer = await this.#post(`${endpoint}/v3/${path}`, body, Math.min(leftMs, memberTimeoutMs))
        if (!isUnavailable(answer)) return understood(answer)
        why ??= `${endpoint}: ${answer.text.slice(0, 200)}`
      } catch (error) {
        if (error instanceof EtcdError) throw error
        why ??= `${endpoint}: ${(error as Error).message}`
      }
      this.#preferred = (this.#preferred + 1) % this.#endpoints.length
      if (++failures % this.#endpoints.length === 0) await pause(Math.min(roundPauseMs, deadlineMs - performance.now()))
    }
  }

  #post(url: string, body: string, timeoutMs: number): Promise<Answer> {
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      ...(this.#token === undefined ? {} : { authorization: this.#token }),
    }
    const signal = AbortSignal.timeout(Math.max(1, Math.ceil(timeoutMs)))
    return new Promise((resolve, reject) => {
      const options = { method: 'POST', headers, signal }
      const isSecure = url.startsWith('https:')
      const sent = isSecure
        ? httpsRequest(url, { ...options, ...this.#credentials.tls, agent: this.#agents.https })
        : httpRequest(url, { ...options, agent: this.#agents.http })
      const fail = (error: Error): void =>
        reject(error.name === 'AbortError' ? new Error(`no answer within ${Math.round(timeoutMs)} ms`) : error)
      sent.on('error', fail)
      sent.on('response', (response) =>
        textOf(response).then((text) => resolve({ status: response.statusCode ?? 0, text }), fail),
      )
      sent.end(body)
    })
  }

  #checked<Schema extends z.ZodType>(schema: Schema, text: string): z.output<Schema> {
    const answer = schema.safeParse(parseJson(text))
    if (answer.success) return answer.data
    throw new EtcdError(
      'protocol',
      `what answers at ${this.#endpoints[this.#preferred]} is not etcd's JSON gateway (3.4 or later)`,
    )
  }
}

function refusal(code: number, why: string): EtcdError {
  switch (code) {
    case GrpcCode.notFound:
      return new EtcdError('lease-gone', `etcd: ${why}`)
    case GrpcCode.denied:
    case GrpcCode.unauthenticated:
      return new EtcdError('denied', `etcd: ${why}`)
    case GrpcCode.exhausted:
      return new EtcdError('full', `etcd: ${why}`)
    default:
      // Without a user, a cluster that has users says so as a bad argument.
      return new EtcdError(/user name is empty|permission denied/.test(why) ? 'denied' : 'protocol', `etcd: ${why}`)
  }
}

/** This member cannot, now: another one may. */
function isUnavailable({ status, text }: Answer): boolean {
  if (status === 200) return false
  const parsed = answerSchemas.error.safeParse(parseJson(text))
  if (!parsed.success) return status >= 500
  const { code, message, error } = parsed.data
  return (
    code === GrpcCode.unavailable || /no leader|leader changed|timed out|not.*capable|stopped/.test(message || error)
  )
}

/** A member refuses some clients in plain words, before its gateway: those with a common name in their certificate. */
function understood(answer: Answer): Answer {
  if (answer.status !== 400 || parseJson(answer.text) !== undefined) return answer
  throw new EtcdError('denied', `etcd refuses us: ${answer.text.trim().slice(0, 200)}`)
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = ''
  response.setEncoding('utf8')
  for await (const chunk of response) {
    text += chunk
    if (text.length > maxAnswerBytes) throw new Error('an answer that never ends')
  }
  return text
}

function plugInto(agent: HttpAgent, cable: Cable): void {
  const createConnection = agent.createConnection.bind(agent)
  agent.createConnection = (...args) => {
    const socket = createConnection(...args)
    cable.plug(socket as Socket)
    return socket
  }
}

function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, delayMs)))
}

function encode(text: string): string {
  return Buffer.from(text).toString('base64')
}

function decodeEntry(entry: z.output<typeof entrySchema>): EtcdEntry {
  const decode = (text: string): string => Buffer.from(text, 'base64').toString('utf8')
  return { key: decode(entry.key), value: decode(entry.value), modRevision: entry.mod_revision, lease: entry.lease }
}
