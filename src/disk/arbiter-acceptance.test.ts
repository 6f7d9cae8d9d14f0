/** The arbiter in the disk server, over its socket, and without one (as the simulator has it): what every arbiter must do. */

import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { Cable } from '../net/cable.ts'
import { Arbiter, type ArbiterAnswerOf, type ArbiterQuestion, type ArbiterSession } from './arbiter.ts'
import { acceptArbiter } from './arbiter-acceptance.test-support.ts'
import type { ArbiterAccess, ArbiterAccessOptions } from './arbiter-access.ts'
import { ArbiterClient } from './arbiter-client.ts'
import { ArbiterRecord } from './arbiter-record.ts'
import type { DiskServer } from './disk-server.ts'
import type { RecordStorage } from './record-storage.ts'
import { freeSocket, startTestServer, temporaryFolder, token } from './test-disk.ts'

acceptArbiter('disk server', async (t: TestContext) => {
  const folder = temporaryFolder()
  const addresses = { nbd: freeSocket(), arbiter: freeSocket(), recordFolder: join(folder, 'records'), exports: [] }
  let server: DiskServer = await startTestServer(t, folder, addresses)
  const cables = new Map<object, Cable>()
  return {
    access: (replica, options) => {
      const cable = new Cable()
      const access = new ArbiterClient({ ...addresses.arbiter, cable, machine: 'web', replica, token, ...options })
      cables.set(access, cable)
      t.after(() => access.close())
      return access
    },
    crash: (access) => {
      // Its kernel closes its sockets.
      access.close()
      cables.get(access)!.cut()
    },
    restart: async () => {
      await server.close()
      server = await startTestServer(t, folder, addresses)
    },
  }
})

/** Records that outlive an arbiter in the same process. */
class MemoryRecordStorage implements RecordStorage {
  readonly #records = new Map<string, ArbiterRecord>()

  load(machine: string): ArbiterRecord {
    return this.#records.get(machine) ?? ArbiterRecord.fresh(machine)
  }

  save(record: ArbiterRecord): void {
    this.#records.set(record.fields.machine, record)
  }
}

/** An access to an arbiter in the same process: a session and nothing between. */
class DirectAccess implements ArbiterAccess {
  readonly #arbiter: () => Arbiter
  readonly #session: ArbiterSession
  #joined: Arbiter | undefined

  constructor(arbiter: () => Arbiter, replica: string, options: Partial<ArbiterAccessOptions> = {}) {
    this.#arbiter = arbiter
    const { generation, onFenced = () => {} } = options
    this.#session = { machine: 'web', replica, held: generation, onFenced }
  }

  get heldGeneration(): number | undefined {
    return this.#session.held
  }

  async connect() {
    return { record: await this.read() }
  }

  async read() {
    return await this.#ask({ op: 'read' })
  }

  async start(_timeoutMs: number, holderHasEnded = false) {
    return await this.#ask({ op: 'start', holderHasEnded })
  }

  async testAndSet(generation: number) {
    return await this.#ask({ op: 'testAndSet', generation } as const)
  }

  async setEligible(generation: number, eligible: readonly string[]) {
    return await this.#ask({ op: 'setEligible', generation, eligible } as const)
  }

  async openGeneration(generation: number, eligible: readonly string[]) {
    return await this.#ask({ op: 'openGeneration', generation, eligible } as const)
  }

  async release(generation: number) {
    return await this.#ask({ op: 'release', generation } as const)
  }

  close(): void {
    this.#joined?.leave(this.#session)
    this.#joined = undefined
  }

  async #ask<Question extends ArbiterQuestion>(question: Question): Promise<ArbiterAnswerOf<Question['op']>> {
    const arbiter = this.#arbiter()
    if (this.#joined !== arbiter) {
      this.#joined = arbiter
      arbiter.join(this.#session)
    }
    return await arbiter.ask(this.#session, question)
  }
}

acceptArbiter('in memory', async () => {
  const storage = new MemoryRecordStorage()
  const begin = (): Arbiter => new Arbiter(storage, { web: token }, () => performance.now(), randomUUID())
  let arbiter = begin()
  return {
    access: (replica, options) => new DirectAccess(() => arbiter, replica, options),
    crash: (access) => access.close(),
    restart: async () => {
      arbiter = begin()
    },
  }
})
