/** The cables between a replica and the world, which fault trials cut (net/cable.ts). */

import { Cable } from '../net/cable.ts'
import type { Reach } from '../replication/reach.ts'
import type { ReplicaSettings } from './replica-settings.ts'

export class ReplicaCables {
  readonly #arbiter = new Cable()
  readonly #etcd = new Cable()
  readonly #disk = new Cable()
  readonly #lan = new Cable()

  /** The same settings, with our cables on the way. */
  laidInto(settings: ReplicaSettings): ReplicaSettings {
    return {
      ...settings,
      arbiter: { ...settings.arbiter, cable: this.#arbiter },
      ...(settings.etcd ? { etcd: { ...settings.etcd, cable: this.#etcd } } : {}),
      disk: { ...settings.disk, cable: this.#disk },
      ...(settings.lan ? { lan: { ...settings.lan, cable: this.#lan } } : {}),
    }
  }

  cut(of: keyof Reach): void {
    for (const cable of this.#of(of)) cable.cut()
  }

  mend(of: keyof Reach): void {
    for (const cable of this.#of(of)) cable.mend()
  }

  loseArbiterAnswers(): void {
    this.#arbiter.loseAnswers()
    this.#etcd.loseAnswers()
  }

  #of(what: keyof Reach): readonly Cable[] {
    return what === 'disk' ? [this.#arbiter, this.#disk] : [this.#lan]
  }
}
