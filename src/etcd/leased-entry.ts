/**
 * A key of etcd that says "I am here": it stands under a lease that its owner renews, and is gone a few seconds after the owner
 * died, or at once when it says goodbye. A cluster out of reach is asked again and again; a lease that ended meanwhile is
 * replaced, because the owner is there.
 */

import { type EtcdClient, EtcdError } from './etcd-client.ts'

/** A dead owner's key stays for so long. etcd counts leases in whole seconds. */
const leaseSeconds = 5
const keepIntervalMs = 1000
const timeoutMs = 2000

export class LeasedEntry {
  readonly #client: EtcdClient
  readonly #key: string
  readonly #trace: (line: string) => void
  #value: string | undefined
  /** What stands in etcd, as far as we were told. */
  #written: string | undefined
  #lease: string | undefined
  #keeper: NodeJS.Timeout | undefined
  #isClosed = false
  #isWorking = false
  #said = ''

  /** @param trace is told once why the cluster does not take the key */
  constructor(client: EtcdClient, key: string, trace: (line: string) => void = () => {}) {
    this.#client = client
    this.#key = key
    this.#trace = trace
  }

  /** From now on this stands there, as soon and as long as the cluster is in reach. */
  set(value: string): void {
    this.#value = value
    this.#keeper ??= setInterval(() => void this.#keep(), keepIntervalMs).unref()
    if (this.#written !== value) void this.#keep()
  }

  /** It was written, and nothing was heard of its end. */
  get isThere(): boolean {
    return this.#written !== undefined
  }

  /** The key goes with its lease, at once if the cluster can be told; else by itself. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#keeper)
    if (this.#lease !== undefined) await this.#client.revokeLease(this.#lease, timeoutMs).catch(() => {})
  }

  async #keep(): Promise<void> {
    if (this.#isWorking || this.#isClosed) return
    this.#isWorking = true
    try {
      await this.#write()
      this.#said = ''
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error
      if (error.reason === 'lease-gone') this.#lease = this.#written = undefined
      else if (error.message !== this.#said) this.#trace(error.message)
      this.#said = error.message
    } finally {
      this.#isWorking = false
    }
    if (this.#written !== this.#value && this.#said === '') await this.#keep()
  }

  async #write(): Promise<void> {
    if (this.#lease === undefined) {
      this.#written = undefined
      const lease = await this.#client.grantLease(leaseSeconds, timeoutMs)
      // Closed meanwhile: it ends by itself.
      if (this.#isClosed) return
      this.#lease = lease
    } else await this.#client.keepLease(this.#lease, timeoutMs)
    const value = this.#value
    if (value === undefined || value === this.#written) return
    await this.#client.transact([], [{ put: this.#key, value, lease: this.#lease }], timeoutMs)
    this.#written = value
  }
}
