/**
 * Conversations made wrong: a polite one goes in as single messages, one with bits, lengths, order and ends changed comes
 * out. A seed decides everything. `seal` is how a protocol with lengths and checksums gets a changed message past
 * them: most changes are sealed, or nobody behind the checksum would ever be tested.
 */

import type { Prng } from '../../src/base/prng.ts'

export type Seal = (message: Uint8Array) => Uint8Array

const extremes = [0, 1, 2, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff]
const longestNoiseBytes = 200

/** @param seal default: nothing is to be put right */
export function mutate(prng: Prng, polite: readonly Uint8Array[], seal: Seal = (message) => message): Uint8Array[] {
  const messages: Uint8Array[] = polite.map((message) => message.slice())
  const changes = 1 + prng.below(3)
  for (let change = 0; change < changes; change++) {
    const index = prng.below(messages.length)
    const message = messages[index]!
    switch (prng.below(9)) {
      case 0:
      case 1:
        messages[index] = maybeSealed(prng, flipBit(prng, message), seal)
        break
      case 2:
      case 3:
        messages[index] = maybeSealed(prng, setNumber(prng, message), seal)
        break
      case 4:
        messages[index] = maybeSealed(prng, message.slice(0, prng.below(message.length + 1)), seal)
        break
      case 5:
        messages[index] = maybeSealed(prng, insert(message, prng.below(message.length + 1), noise(prng)), seal)
        break
      case 6:
        messages.splice(prng.below(messages.length + 1), 0, message.slice())
        break
      case 7: {
        const other = prng.below(messages.length)
        messages[index] = messages[other]!
        messages[other] = message
        break
      }
      case 8:
        messages[index] = noise(prng)
    }
  }
  return messages
}

function flipBit(prng: Prng, message: Uint8Array): Uint8Array {
  const changed = message.slice()
  if (changed.length > 0) changed[prng.below(changed.length)]! ^= 1 << prng.below(8)
  return changed
}

/** Writes an extreme number somewhere, in either byte order. */
function setNumber(prng: Prng, message: Uint8Array): Uint8Array {
  const changed = message.slice()
  if (changed.length < 4) return changed
  const offset = prng.below(changed.length - 3)
  new DataView(changed.buffer).setUint32(offset, prng.pick(extremes), prng.chance(0.5))
  return changed
}

function insert(message: Uint8Array, offset: number, bytes: Uint8Array): Uint8Array {
  const changed = new Uint8Array(message.length + bytes.length)
  changed.set(message.subarray(0, offset))
  changed.set(bytes, offset)
  changed.set(message.subarray(offset), offset + bytes.length)
  return changed
}

function noise(prng: Prng): Uint8Array {
  const words = BigUint64Array.from({ length: longestNoiseBytes / 8 }, () => prng.u64())
  return new Uint8Array(words.buffer, 0, prng.below(longestNoiseBytes))
}

function maybeSealed(prng: Prng, message: Uint8Array, seal: Seal): Uint8Array {
  return prng.chance(0.75) ? seal(message) : message
}
